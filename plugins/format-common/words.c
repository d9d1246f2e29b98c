/* words.c - the id of a word, by binary search in a sorted list: no input makes that slow. A word's first eight bytes are
 * compared as a number: most often they decide, without a look at the text, which lies elsewhere in memory. */
#include "common.h"

#include <string.h>

static int compare_bytes(const char *a, size_t n_a, const char *b, size_t n_b)
{
	int order = memcmp(a, b, n_a < n_b ? n_a : n_b);

	return order ? order : (n_a > n_b) - (n_a < n_b);
}

/* The first eight bytes of @a and @b joined, the first being the highest; 0 for those that are not there. */
static uint64_t head_of(const char *a, size_t n_a, const char *b, size_t n_b)
{
	uint64_t head = 0;

	for (size_t i = 0; i < sizeof(head); i++) {
		uint8_t byte = i < n_a ? (uint8_t)a[i] : i < n_a + n_b ? (uint8_t)b[i - n_a] : 0;

		head = head << 8 | byte;
	}
	return head;
}

static int by_text(const void *a, const void *b)
{
	const struct ds_word *x = a, *y = b;
	int order = (x->head > y->head) - (x->head < y->head);

	if (!order)
		order = compare_bytes(x->text, x->size, y->text, y->size);

	if (order)
		return order;
	if (x->added != y->added)
		return x->added ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

void ds_words_sort(struct ds_words_index *index)
{
	for (uint32_t i = 0; i < index->n; i++)
		index->words[i].head = head_of(index->words[i].text, index->words[i].size, "", 0);
	if (index->n > 1)
		qsort(index->words, index->n, sizeof(*index->words), by_text);
}

void ds_words_index_deinit(struct ds_words_index *index)
{
	free(index->words);
}

/* Compare a word with @a and @b joined, which begin with @head. */
static int compare_joined(const struct ds_word *word, uint64_t head, const char *a, size_t n_a, const char *b, size_t n_b)
{
	int order;

	if (word->head != head)
		return word->head < head ? -1 : 1;
	order = compare_bytes(word->text, word->size < n_a ? word->size : n_a, a, n_a);
	return order ? order : compare_bytes(word->text + n_a, word->size - n_a, b, n_b);
}

/* The id of the word made of @a and @b, or DS_NO_TOKEN. */
static uint32_t find(const struct ds_words_index *index, const char *a, size_t n_a, const char *b, size_t n_b)
{
	uint64_t head = head_of(a, n_a, b, n_b);
	uint32_t low = 0, high = index->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (compare_joined(&index->words[middle], head, a, n_a, b, n_b) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == index->n || compare_joined(&index->words[low], head, a, n_a, b, n_b) != 0)
		return DS_NO_TOKEN;
	return index->words[low].id;
}

bool ds_pair_split(struct ds_pair *pair, const char *text, size_t size)
{
	const char *space = size ? memchr(text, ' ', size) : NULL;

	if (!space)
		return false;
	*pair = (struct ds_pair){
		.left = text,
		.left_size = (size_t)(space - text),
		.right = space + 1,
		.right_size = size - (size_t)(space - text) - 1,
	};
	return pair->left_size > 0 && pair->right_size > 0 && !memchr(pair->right, ' ', pair->right_size);
}

int ds_pair_resolve(struct ds_merge *out, const struct ds_pair *p, const struct ds_words_index *index, const char *file,
		    const char *key, size_t i, struct ds_error *err)
{
	struct ds_merge m = {
		.left = find(index, p->left, p->left_size, "", 0),
		.right = find(index, p->right, p->right_size, "", 0),
		.merged = find(index, p->left, p->left_size, p->right, p->right_size),
	};
	struct ds_shown left, right;

	if (m.left != DS_NO_TOKEN && m.right != DS_NO_TOKEN && m.merged != DS_NO_TOKEN) {
		*out = m;
		return 0;
	}
	left = ds_shown_bytes(p->left, p->left_size);
	right = ds_shown_bytes(p->right, p->right_size);
	if (m.left == DS_NO_TOKEN || m.right == DS_NO_TOKEN)
		return ds_fail(err, -EINVAL, "%s: %s[%zu], %s + %s: %s is not in the vocabulary", file, key, i,
			       left.text, right.text, m.left == DS_NO_TOKEN ? left.text : right.text);
	return ds_fail(err, -EINVAL, "%s: %s[%zu], %s + %s: %s%s is not in the vocabulary", file, key, i, left.text,
		       right.text, left.text, right.text);
}

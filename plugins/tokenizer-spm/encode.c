/* encode.c - text to tokens: added tokens are cut out; what lies between them gets its space in front, where the
 * vocabulary wants one, and is joined, word by word if no token reaches from one word into the next. */
#include "spm.h"

#define SPACE_SIGN "\xE2\x96\x81" /* U+2581 */
#define SPACE_SIGN_SIZE 3

struct work {
	const struct ds_spm *spm;
	struct ds_ids ids;
	struct ds_spm_scratch scratch;
	char *text; /* of a gap, as it is joined */
};

static void work_deinit(struct work *work)
{
	free(work->ids.ids);
	free(work->scratch.memory);
	free(work->text);
}

/* Write @text to work->text as it is joined. Returns its size. */
static size_t prepare(struct work *work, const char *text, size_t n)
{
	size_t size = 0;

	if (work->spm->vocabulary->add_space_prefix)
		work->text[size++] = ' ';
	for (size_t i = 0; i < n;) {
		if (n - i >= SPACE_SIGN_SIZE && memcmp(text + i, SPACE_SIGN, SPACE_SIGN_SIZE) == 0) {
			work->text[size++] = ' ';
			i += SPACE_SIGN_SIZE;
		} else {
			work->text[size++] = text[i++];
		}
	}
	return size;
}

/* The bytes up to the next space that comes after another character. */
static size_t word_size(const char *text, size_t n)
{
	size_t i = 1;

	while (i < n && !(text[i] == ' ' && text[i - 1] != ' '))
		i++;
	return i;
}

static int encode_gap(struct work *work, const char *text, size_t n, struct ds_error *err)
{
	size_t size, word;
	int r = 0;

	if (n == 0)
		return 0;
	size = prepare(work, text, n);
	work->scratch.unknown = false;
	for (size_t i = 0; r == 0 && i < size; i += word) {
		word = work->spm->cuts_at_spaces ? word_size(work->text + i, size - i) : size;
		r = ds_spm_join(work->spm, &work->scratch, work->text + i, word, &work->ids, err);
	}
	return r;
}

int ds_spm_encode(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		  size_t *n_ids, struct ds_error *err)
{
	ds_cleanup(work_deinit) struct work work = {.spm = self, .ids = {.max = max_ids}};
	const struct ds_added *added = flags & DS_TOKENIZE_SPECIAL ? &work.spm->trusted : &work.spm->untrusted;
	size_t begin = 0, at, size;

	work.text = malloc(text_size + 1);
	if (!work.text)
		return ds_fail(err, -ENOMEM, "no memory for %zu bytes of text", text_size);
	for (;;) {
		uint32_t id = ds_added_next(added, work.spm->vocabulary, text, text_size, begin, &at, &size);
		int r = encode_gap(&work, text + begin, at - begin, err);

		if (r == 0 && id != DS_NO_TOKEN)
			r = ds_ids_reserve(&work.ids, 1, err);
		if (r < 0)
			return r;
		if (id == DS_NO_TOKEN)
			return ds_ids_hand_over(&work.ids, work.spm->host, ids, n_ids, err);
		work.ids.ids[work.ids.n++] = id;
		begin = at + size;
	}
}

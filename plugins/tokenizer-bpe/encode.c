/* encode.c - text to tokens.
 *
 * Text need not be valid UTF-8. Patterns see only its valid stretches; each byte outside them is a piece of its own and
 * becomes the token of that byte, so that decoding gives back the very bytes (Hugging Face would have replaced them by
 * U+FFFD before it saw them). A byte for which the vocabulary has no token, which can only be one that valid UTF-8
 * never has, becomes the tokens of U+FFFD. */
#include "bpe.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static int too_many(const struct ds_bpe_work *work, struct ds_error *err)
{
	return ds_fail(err, -E2BIG, "the text has more than %zu tokens", work->max_ids);
}

/* Room for @n more tokens, asked for at every piece: here a text that is too long is found out. */
static int reserve(struct ds_bpe_work *work, size_t n, struct ds_error *err)
{
	size_t capacity = work->capacity ? work->capacity : 256;
	uint32_t *ids;

	if (work->n_ids > work->max_ids)
		return too_many(work, err);
	if (work->n_ids + n <= work->capacity)
		return 0;
	while (capacity < work->n_ids + n)
		capacity *= 2;
	ids = realloc(work->ids, capacity * sizeof(*ids));
	if (!ids)
		return ds_fail(err, -ENOMEM, "no memory for %zu tokens", work->n_ids + n);
	work->ids = ids;
	work->capacity = capacity;
	return 0;
}

/* Append the token of every byte, unmerged; there is room for three tokens a byte. */
static int push_bytes(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	const uint32_t *bytes = work->bpe->bytes;

	for (size_t i = 0; i < n; i++) {
		if (bytes[(uint8_t)text[i]] != DS_NO_TOKEN) {
			work->ids[work->n_ids++] = bytes[(uint8_t)text[i]];
			continue;
		}
		for (const char *c = REPLACEMENT; *c; c++) {
			if (bytes[(uint8_t)*c] == DS_NO_TOKEN)
				return ds_fail(err, -EINVAL, "the vocabulary has no token for byte 0x%02x",
					       (unsigned)(uint8_t)text[i]);
			work->ids[work->n_ids++] = bytes[(uint8_t)*c];
		}
	}
	return 0;
}

int ds_bpe_encode_piece(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	struct ds_bpe *bpe = work->bpe;
	uint32_t word = n <= bpe->max_word ? ds_bpe_find_word(bpe, text, n) : DS_NO_TOKEN;
	size_t begin = work->n_ids, n_merged;
	int r = reserve(work, 3 * n, err);

	if (r < 0)
		return r;
	if (word != DS_NO_TOKEN && (bpe->vocabulary->ignore_merges ||
				    atomic_load_explicit(&bpe->whole[word], memory_order_relaxed) == DS_BPE_WHOLE)) {
		work->ids[work->n_ids++] = word;
		return 0;
	}
	r = push_bytes(work, text, n, err);
	if (r < 0)
		return r;
	n_merged = work->n_ids - begin;
	r = ds_bpe_merge(bpe, &work->scratch, work->ids + begin, &n_merged, err);
	if (r < 0)
		return r;
	work->n_ids = begin + n_merged;
	if (word != DS_NO_TOKEN)
		atomic_store_explicit(&bpe->whole[word],
				      n_merged == 1 && work->ids[begin] == word ? DS_BPE_WHOLE : DS_BPE_PARTS,
				      memory_order_relaxed);
	return 0;
}

/* Valid UTF-8 between added tokens. */
static int encode_valid(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	char *normal = (char *)text;
	int r = 0;

	if (work->bpe->vocabulary->nfc)
		r = ds_bpe_normalize(text, n, &normal, &n, err);
	if (r == 0 && n > 0)
		r = ds_bpe_split(work, 0, normal, n, err);
	if (normal != text)
		free(normal);
	return r;
}

/* Bytes that can be no character: each stands alone. */
static int encode_invalid(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	int r = reserve(work, 3 * n, err);

	return r < 0 ? r : push_bytes(work, text, n, err);
}

static int encode_gap(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	size_t begin = 0, size;

	for (size_t i = 0; i < n; i += size) {
		int r;

		if (ds_utf8_next(text + i, n - i, &size) == DS_UTF8_CHARACTER)
			continue;
		r = begin < i ? encode_valid(work, text + begin, i - begin, err) : 0;
		if (r == 0)
			r = encode_invalid(work, text + i, size, err);
		if (r < 0)
			return r;
		begin = i + size;
	}
	return begin < n ? encode_valid(work, text + begin, n - begin, err) : 0;
}

static int encode_text(struct ds_bpe_work *work, const struct ds_bpe_added *added, const char *text, size_t n,
		       struct ds_error *err)
{
	const struct ds_vocabulary *vocabulary = work->bpe->vocabulary;
	size_t begin = 0, i = 0;
	int r;

	while (i < n) {
		uint32_t id = DS_NO_TOKEN;

		if (added->begins[(uint8_t)text[i]])
			id = ds_bpe_added_match(added, vocabulary, text + i, n - i);
		if (id == DS_NO_TOKEN) {
			i++;
			continue;
		}
		r = encode_gap(work, text + begin, i - begin, err);
		if (r == 0)
			r = reserve(work, 1, err);
		if (r < 0)
			return r;
		work->ids[work->n_ids++] = id;
		i += vocabulary->tokens[id].size;
		begin = i;
	}
	return encode_gap(work, text + begin, n - begin, err);
}

/* Append what was found to the caller's array, which is only ever exactly as large as it has to be. */
static int hand_over(const struct ds_bpe_work *work, uint32_t **ids, size_t *n_ids, struct ds_error *err)
{
	const struct ds_host *host = work->bpe->host;
	uint32_t *all;

	if (work->n_ids == 0)
		return 0;
	all = host->alloc((*n_ids + work->n_ids) * sizeof(*all));
	if (!all)
		return ds_fail(err, -ENOMEM, "no memory for %zu tokens", *n_ids + work->n_ids);
	if (*n_ids > 0)
		memcpy(all, *ids, *n_ids * sizeof(*all));
	memcpy(all + *n_ids, work->ids, work->n_ids * sizeof(*all));
	host->free(*ids);
	*ids = all;
	*n_ids += work->n_ids;
	return 0;
}

static void work_deinit(struct ds_bpe_work *work)
{
	pcre2_match_data_free(work->match);
	free(work->ids);
	free(work->scratch.memory);
}

int ds_bpe_encode(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		  size_t *n_ids, struct ds_error *err)
{
	ds_cleanup(work_deinit) struct ds_bpe_work work = {.bpe = self, .max_ids = max_ids};
	const struct ds_bpe_added *added;
	int r;

	added = flags & DS_TOKENIZE_SPECIAL ? &work.bpe->trusted : &work.bpe->untrusted;
	work.match = pcre2_match_data_create(1, NULL);
	if (!work.match)
		return ds_fail(err, -ENOMEM, "no memory to split text");
	r = encode_text(&work, added, text, text_size, err);
	if (r == 0 && work.n_ids > max_ids)
		r = too_many(&work, err);
	return r < 0 ? r : hand_over(&work, ids, n_ids, err);
}

/* encode.c - text to tokens.
 *
 * Text need not be valid UTF-8. Patterns see only its valid stretches; each byte outside them is a piece of its own and
 * becomes the token of that byte, so that decoding gives back the very bytes (Hugging Face would have replaced them by
 * U+FFFD before it saw them). A byte for which the vocabulary has no token, which can only be one that valid UTF-8
 * never has, becomes the tokens of U+FFFD. */
#include "bpe.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* Append the token of every byte, unmerged; there is room for three tokens a byte. */
static int push_bytes(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	const uint32_t *bytes = work->bpe->bytes;

	for (size_t i = 0; i < n; i++) {
		if (bytes[(uint8_t)text[i]] != DS_NO_TOKEN) {
			work->ids.ids[work->ids.n++] = bytes[(uint8_t)text[i]];
			continue;
		}
		for (const char *c = REPLACEMENT; *c; c++) {
			if (bytes[(uint8_t)*c] == DS_NO_TOKEN)
				return ds_fail(err, -EINVAL, "the vocabulary has no token for byte 0x%02x",
					       (unsigned)(uint8_t)text[i]);
			work->ids.ids[work->ids.n++] = bytes[(uint8_t)*c];
		}
	}
	return 0;
}

int ds_bpe_encode_piece(struct ds_bpe_work *work, const char *text, size_t n, struct ds_error *err)
{
	struct ds_bpe *bpe = work->bpe;
	uint32_t word = ds_lexicon_find(&bpe->lexicon, text, n);
	size_t begin = work->ids.n, n_merged;
	int r = ds_ids_reserve(&work->ids, 3 * n, err);

	if (r < 0)
		return r;
	if (word != DS_NO_TOKEN && (bpe->vocabulary->ignore_merges ||
				    atomic_load_explicit(&bpe->whole[word], memory_order_relaxed) == DS_BPE_WHOLE)) {
		work->ids.ids[work->ids.n++] = word;
		return 0;
	}
	r = push_bytes(work, text, n, err);
	if (r < 0)
		return r;
	n_merged = work->ids.n - begin;
	r = ds_bpe_merge(bpe, &work->scratch, work->ids.ids + begin, &n_merged, err);
	if (r < 0)
		return r;
	work->ids.n = begin + n_merged;
	if (word != DS_NO_TOKEN)
		atomic_store_explicit(&bpe->whole[word],
				      n_merged == 1 && work->ids.ids[begin] == word ? DS_BPE_WHOLE : DS_BPE_PARTS,
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
	int r = ds_ids_reserve(&work->ids, 3 * n, err);

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

static int encode_text(struct ds_bpe_work *work, const struct ds_added *added, const char *text, size_t n,
		       struct ds_error *err)
{
	size_t begin = 0, at, size;

	for (;;) {
		uint32_t id = ds_added_next(added, work->bpe->vocabulary, text, n, begin, &at, &size);
		int r = encode_gap(work, text + begin, at - begin, err);

		if (r == 0 && id != DS_NO_TOKEN)
			r = ds_ids_reserve(&work->ids, 1, err);
		if (r < 0 || id == DS_NO_TOKEN)
			return r;
		work->ids.ids[work->ids.n++] = id;
		begin = at + size;
	}
}

static void work_deinit(struct ds_bpe_work *work)
{
	pcre2_match_data_free(work->match);
	free(work->ids.ids);
	free(work->scratch.memory);
}

int ds_bpe_encode(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		  size_t *n_ids, struct ds_error *err)
{
	ds_cleanup(work_deinit) struct ds_bpe_work work = {.bpe = self, .ids = {.max = max_ids}};
	const struct ds_added *added;
	int r;

	added = flags & DS_TOKENIZE_SPECIAL ? &work.bpe->trusted : &work.bpe->untrusted;
	work.match = pcre2_match_data_create(1, NULL);
	if (!work.match)
		return ds_fail(err, -ENOMEM, "no memory to split text");
	r = encode_text(&work, added, text, text_size, err);
	return r < 0 ? r : ds_ids_hand_over(&work.ids, work.bpe->host, ids, n_ids, err);
}

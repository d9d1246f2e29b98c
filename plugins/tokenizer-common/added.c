/* added.c - tokens that were added to a vocabulary after its training: matched in the raw text, leftmost and longest.
 *
 * Hugging Face matches all of them in any text, so that a user who writes <｜Assistant｜> or <think> speaks with the
 * model's voice. Here text that is not trusted never becomes markup: neither a token that is flagged special, nor one
 * that looks like a tag (it begins with '<' and ends with '>'), because the flag alone does not tell: <think> and, in
 * the distilled models, <｜User｜> are not flagged. Such text is encoded as the ordinary characters that it is.
 * Other added tokens are matched everywhere: the thirteen letters that DeepSeek-LLM adds (as in "Führer") are words of
 * the language, and leaving them out would change what ordinary text encodes to.
 * Nor may merges lead to markup, whatever a checkpoint says: see tokenizer-bpe/bpe.c. */
#include "common.h"

bool ds_added_is_markup(const struct ds_token *token)
{
	if (token->flags & DS_TOKEN_SPECIAL)
		return true;
	return (token->flags & DS_TOKEN_ADDED) && token->size > 2 && token->text[0] == '<' &&
	       token->text[token->size - 1] == '>';
}

static int by_text(const void *a, const void *b, void *tokens)
{
	const struct ds_token *x = (const struct ds_token *)tokens + *(const uint32_t *)a;
	const struct ds_token *y = (const struct ds_token *)tokens + *(const uint32_t *)b;
	int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);

	if (order == 0)
		order = (x->size > y->size) - (x->size < y->size);
	return order != 0 ? order : *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

int ds_added_init(struct ds_added *added, const struct ds_vocabulary *vocabulary, bool trusted,
		      struct ds_error *err)
{
	added->ids = calloc(vocabulary->n_tokens + 1u, sizeof(*added->ids));
	if (!added->ids)
		return ds_fail(err, -ENOMEM, "no memory for added tokens");
	for (uint32_t id = 0; id < vocabulary->n_tokens; id++) {
		const struct ds_token *token = &vocabulary->tokens[id];

		if (!(token->flags & (DS_TOKEN_ADDED | DS_TOKEN_SPECIAL)) || token->size == 0 ||
		    (token->flags & DS_TOKEN_UNUSED) || (!trusted && ds_added_is_markup(token)))
			continue;
		added->ids[added->n++] = id;
		added->begins[(uint8_t)token->text[0]] = true;
	}
	qsort_r(added->ids, added->n, sizeof(*added->ids), by_text, (void *)vocabulary->tokens);
	return 0;
}

void ds_added_deinit(struct ds_added *added)
{
	free(added->ids);
}

/* The first of ids[low, high), which agree in @depth bytes, whose next byte is not below @byte. */
static size_t lower_bound(const struct ds_added *added, const struct ds_token *tokens, size_t low, size_t high,
			  size_t depth, unsigned byte)
{
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct ds_token *token = &tokens[added->ids[middle]];

		if (token->size <= depth || (uint8_t)token->text[depth] < byte)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The longest token of @added that @text begins with, DS_NO_TOKEN if none does. */
static uint32_t match(const struct ds_added *added, const struct ds_vocabulary *vocabulary, const char *text, size_t n)
{
	const struct ds_token *tokens = vocabulary->tokens;
	size_t low = 0, high = added->n;
	uint32_t found = DS_NO_TOKEN;

	for (size_t depth = 0; depth < n && low < high; depth++) {
		unsigned byte = (uint8_t)text[depth];

		low = lower_bound(added, tokens, low, high, depth, byte);
		high = lower_bound(added, tokens, low, high, depth, byte + 1);
		/* A token that ends here comes before those that go on. */
		if (low < high && tokens[added->ids[low]].size == depth + 1)
			found = added->ids[low];
	}
	return found;
}

uint32_t ds_added_next(const struct ds_added *added, const struct ds_vocabulary *vocabulary, const char *text, size_t n,
		       size_t from, size_t *at, size_t *size)
{
	for (size_t i = from; i < n; i++) {
		uint32_t id;

		if (!added->begins[(uint8_t)text[i]])
			continue;
		id = match(added, vocabulary, text + i, n - i);
		if (id != DS_NO_TOKEN) {
			*at = i;
			*size = vocabulary->tokens[id].size;
			return id;
		}
	}
	*at = n;
	*size = 0;
	return DS_NO_TOKEN;
}

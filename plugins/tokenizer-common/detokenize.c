/* detokenize.c - tokens back to text. Bytes of a character that is not complete wait in the caller's state; what cannot
 * become a character is one U+FFFD per longest beginning of one, as browsers do. */
#include "common.h"

#define REPLACEMENT "\xEF\xBF\xBD"
#define REPLACEMENT_SIZE 3

const char *ds_token_text(const struct ds_vocabulary *vocabulary, uint32_t id, size_t *text_size)
{
	if (id >= vocabulary->n_tokens) {
		*text_size = 0;
		return "";
	}
	*text_size = vocabulary->tokens[id].size;
	return vocabulary->tokens[id].text;
}

static size_t write_character(char *out, const char *text, size_t size, enum ds_utf8 kind)
{
	if (kind == DS_UTF8_CHARACTER) {
		memcpy(out, text, size);
		return size;
	}
	memcpy(out, REPLACEMENT, REPLACEMENT_SIZE);
	return REPLACEMENT_SIZE;
}

/* Complete the character that waits, byte by byte, with the beginning of @text. Returns the bytes used: none if the
 * character turns out to be broken before them. */
static size_t complete(struct ds_detokenizer *state, const char *text, size_t n, char *out, size_t *n_out)
{
	size_t used = 0, size;

	while (state->n_pending > 0 && used < n) {
		enum ds_utf8 kind;

		state->pending[state->n_pending] = (uint8_t)text[used];
		kind = ds_utf8_next((const char *)state->pending, state->n_pending + 1u, &size);
		if (kind != DS_UTF8_INVALID) {
			used++;
			state->n_pending++;
		}
		if (kind == DS_UTF8_UNFINISHED)
			continue;
		*n_out += write_character(out + *n_out, (const char *)state->pending, size, kind);
		state->n_pending = 0;
	}
	return used;
}

size_t ds_detokenize(const struct ds_vocabulary *vocabulary, struct ds_detokenizer *state, uint32_t id, char *out)
{
	size_t n, n_out = 0, i;
	const char *text = ds_token_text(vocabulary, id, &n);

	for (i = complete(state, text, n, out, &n_out); i < n;) {
		size_t size;
		enum ds_utf8 kind = ds_utf8_next(text + i, n - i, &size);

		if (kind == DS_UTF8_UNFINISHED) {
			memcpy(state->pending, text + i, size);
			state->n_pending = (uint8_t)size;
			break;
		}
		n_out += write_character(out + n_out, text + i, size, kind);
		i += size;
	}
	return n_out;
}

size_t ds_detokenize_finish(struct ds_detokenizer *state, char *out)
{
	bool unfinished = state->n_pending > 0;

	state->n_pending = 0;
	return unfinished ? write_character(out, NULL, 0, DS_UTF8_UNFINISHED) : 0;
}

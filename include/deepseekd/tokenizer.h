/* tokenizer.h - text to tokens and back.
 *
 * Vectors: input {"vocabulary": {"tokens": [text or {"text","special","added","unused","byte"}...], "merges": [[left id,
 * right id, merged id]...], "patterns": [...], "ignore_merges": bool, "nfc": bool, "scores": [...], "unknown": id,
 * "add_space_prefix": bool}, "text": "...", "special": bool} or, the other way, {"vocabulary": ..., "ids": [...]};
 * output {"ids": [...]} or {"text": "..."}.
 * Token texts in vectors are the bytes as Latin-1 code points (U+0000 to U+00FF), so that any byte can be written. */
#pragma once

#include "model.h"
#include "plugin.h"

/* Carries bytes of an unfinished UTF-8 character from one token to the next. Zero it to start. */
struct ds_detokenizer {
	uint8_t pending[4];
	uint8_t n_pending;
};

enum {
	DS_TOKENIZE_SPECIAL = 1u << 0, /* the text is trusted: special tokens written in it become tokens */
};

/* One @self serves many threads: only open and close change it. */
struct ds_tokenizer_ops {
	size_t size;
	/* @vocabulary outlives @self. -ENOTSUP: a pattern that cannot be compiled. */
	int (*open)(void **self, const struct ds_host *host, const struct ds_vocabulary *vocabulary, struct ds_error *err);
	/* Append the tokens of @text (valid UTF-8 or not) to (*ids)[*n_ids]; the array grows by host->alloc and belongs
	 * to the caller (host->free), also after a failure. No bos is added.
	 * -E2BIG: @text has more than @max_ids tokens; found out soon after so many, however long it is. */
	int (*encode)(void *self, const char *text, size_t text_size, unsigned flags, size_t max_ids, uint32_t **ids,
		      size_t *n_ids, struct ds_error *err);
	/* Borrow the bytes of one token. An id without a text gives size 0. */
	const char *(*token_text)(void *self, uint32_t id, size_t *text_size);
	/* Write what token @id completes: whole UTF-8 characters only; what cannot become one is U+FFFD.
	 * @out has room for token text size * 3 + 12 bytes. Returns the bytes written. */
	size_t (*detokenize)(void *self, struct ds_detokenizer *state, uint32_t id, char *out);
	/* End of the text: a character left unfinished becomes U+FFFD. @out has room for 12 bytes. */
	size_t (*finish)(void *self, struct ds_detokenizer *state, char *out);
	void (*close)(void *self);
};

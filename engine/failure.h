/* failure.h - why a request could not be served, as its FAILED event will say it. */
#pragma once

#include "outbox.h"

#define DS_INVALID_REQUEST "invalid_request"
#define DS_CONTEXT_LENGTH_EXCEEDED "context_length_exceeded"
#define DS_NO_TOKENIZER "model_has_no_tokenizer"
#define DS_NO_DIALECT "model_has_no_dialect"
#define DS_CANCELLED "cancelled"
#define DS_SHUTTING_DOWN "shutting_down"
#define DS_INTERNAL "internal"

struct ds_failure {
	const char *code;
	char param[64];			/* of invalid_request; "" without */
	uint32_t n_prompt_tokens, n_ctx; /* of context_length_exceeded */
	struct ds_error error;
};

/* Write code, parameter (NULL: none) and sentence, and hand back -EINVAL. */
__attribute__((format(printf, 4, 5)))
int ds_refuse(struct ds_failure *failure, const char *code, const char *param, const char *fmt, ...);
/* A prompt of @n tokens (@more: "", or "more than " where they were not all counted) is longer than @context: -EINVAL. */
int ds_refuse_prompt(struct ds_failure *failure, const char *more, size_t n, uint32_t context);
/* End the request of @outlet with this failure. */
void ds_failure_send(const struct ds_failure *failure, struct ds_outlet *outlet);

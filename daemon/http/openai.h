/* openai.h - what chat completions and completions share: checking the fields of a body, running the request, and
 * turning events into objects, streamed or whole. */
#pragma once

#include "reply.h"

/* One generation and its answer. The wire's functions fill in the shape of its objects. */
struct ds_answer {
	struct ds_call *call;
	struct ds_request *request;
	struct ds_model *model; /* referenced */
	const struct ds_openai_wire *wire;
	struct event *keep_alive;
	char id[48];
	json_int_t created;
	bool stream, include_usage, logprobs;
	bool begun; /* the stream's headers have left */

	struct evbuffer *content, *reasoning; /* gathered, when it is not streamed */
	json_t *tool_calls;                   /* likewise */
	struct evbuffer *arguments;           /* of the last of them, until ds_answer_end_tool() */
	json_t *token_logprobs;               /* gathered by the wire, or of the next text event of a stream */
	json_t *reasoning_logprobs, *pending_logprobs;
	size_t n_tool_calls, text_offset;
	size_t size; /* about, of the gathered logprobs as they will be written */
};

struct ds_openai_wire {
	const char *id_prefix, *object;
	/* Add the engine's logprobs @from (consumed) to @to, NULL at first, in the shape of an answer that is not
	 * streamed. */
	void (*gather)(struct ds_answer *a, json_t **to, json_t *from);
	/* The choice that a text event adds to a stream; NULL: bytes that are not UTF-8. */
	json_t *(*delta)(struct ds_answer *a, const struct ds_request_event *event);
	json_t *(*first)(struct ds_answer *a);                    /* choice before all others, or NULL function */
	json_t *(*last)(struct ds_answer *a, const char *finish); /* choice with the reason of the end */
	json_t *(*whole)(struct ds_answer *a,
			 const char *finish); /* the only choice of an answer that is not streamed */
};

/* A field of a body that becomes one of the same name in "sampling". */
int ds_openai_take_sampling(struct ds_call *call, json_t *to);
/* The rest that both know: stream, stream_options, max_tokens, stop, n and what is not supported. -EINVAL: refused, and
 * answered. */
int ds_openai_take_common(struct ds_call *call, struct ds_answer *a, json_t *to);

/* The model that the body names. NULL: there is none, and answered. */
struct ds_model *ds_openai_model(struct ds_call *call);

/* Refuse the call for its field @param. Returns -EINVAL. */
int ds_openai_refuse(struct ds_call *call, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Run @generate (consumed) and answer with the shape of @a, whose flags are set; takes over both. */
void ds_openai_run(struct ds_call *call, struct ds_answer *a, struct ds_model *model, json_t *generate);
struct ds_answer *ds_answer_new(struct ds_call *call, const struct ds_openai_wire *wire);
struct ds_answer *ds_answer_free(struct ds_answer *a); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_answer)

/* Take what lies in token_logprobs, or JSON null. */
json_t *ds_answer_take_logprobs(struct ds_answer *a);
/* The arguments of the last tool call are whole. */
void ds_answer_end_tool(struct ds_answer *a);
/* The gathered text as JSON, or NULL if it is not UTF-8. */
json_t *ds_answer_text(struct evbuffer *text);

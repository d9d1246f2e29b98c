/* event.h - what an engine tells about its requests: a batch of events is the payload of one DS_MSG_EVENTS.
 *
 * An event is a header of 16 bytes and its text or numbers, padded to 8 bytes. Little-endian. A request begins with
 * STARTED and ends with exactly one DONE or FAILED; nothing follows.
 * Of its output credit (DS_CREDIT bytes at the start) a request spends the padded size of each of its events. */
#pragma once

#include <deepseekd/base.h>

#define DS_CREDIT (256u << 10)

enum ds_event_type {
	DS_EVENT_STARTED = 1,	 /* struct ds_usage so far: the prompt is known */
	DS_EVENT_REASONING,	 /* text */
	DS_EVENT_CONTENT,	 /* text */
	DS_EVENT_TOOL_NAME,	 /* text: a tool call begins */
	DS_EVENT_TOOL_ARGUMENTS, /* text: JSON of the call begun last */
	DS_EVENT_LOGPROBS,	 /* JSON [{"id", "token", "logprob", "top": [{"id", "token", "logprob"}...]}...]: tokens of the
				  * text event that follows; logprob null for the first token of a prompt */
	DS_EVENT_LOGITS,	 /* float32s of DS_MSG_EVALUATE, in order; rows may be cut anywhere between two floats */
	DS_EVENT_DONE,		 /* struct ds_done */
	DS_EVENT_FAILED,	 /* JSON {"code", "message", ...} */
};

struct ds_event_header {
	uint64_t request;
	uint16_t type;
	uint16_t reserved;
	uint32_t size; /* of what follows, before padding */
};

struct ds_usage {
	uint32_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
};

enum ds_finish {
	DS_FINISH_STOP = 1,
	DS_FINISH_LENGTH,
	DS_FINISH_TOOL_CALLS,
};

struct ds_done {
	struct ds_usage usage;
	uint32_t finish;   /* enum ds_finish */
	uint32_t reserved;
};

/* Bytes of an event with @size bytes of text, as it lies in a batch. */
static inline size_t ds_event_size(size_t size)
{
	return sizeof(struct ds_event_header) + ((size + 7) & ~(size_t)7);
}

/* Step through a batch: *@offset starts at 0; 1: *@header and *@body are the next event (both borrowed, the body
 * aligned to 8 if the batch is); 0: the end; -EPROTO: malformed. */
int ds_event_next(const uint8_t *batch, size_t batch_size, size_t *offset, const struct ds_event_header **header,
		  const uint8_t **body);

/* observe.h - what the daemon tells its administrator: events with an id and fields, and one audit record a request.
 *
 * Everything here takes numbers and names, never a prompt or an answer; so nothing of them can be logged. */
#pragma once

#include "counters.h"
#include "log.h"

#include <sys/types.h>

/* A request that has ended. Texts are borrowed; NULL or "" is not known. Durations in microseconds. */
struct ds_request_record {
	const char *id, *model;
	const char *owner;      /* "uid:1000" */
	uid_t uid;              /* (uid_t)-1: of no user */
	const char *unit, *app; /* labels of who asked */
	enum ds_kind kind;
	enum ds_outcome outcome;
	/* Of a request that was cut short, completion_tokens are the pieces of output that came. */
	uint64_t prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens;
	uint64_t queue_usec, prefill_usec, decode_usec; /* to the slot, to the first output, to the end */
};

void ds_observe_request(const struct ds_request_record *record);

/* @state: "loading", "ready", "unloading", "absent" or "failed", then with the @reason. */
void ds_observe_model_state(const char *model, const char *state, const char *reason);
void ds_observe_memory_refused(const char *model, const char *reason);
void ds_observe_engine_died(const char *model, const char *reason);
void ds_observe_plugin_refused(const char *plugin, const char *state, const char *reason);
/* An event of the daemon itself: @message_id of message-ids.h. */
void ds_observe_daemon(int priority, const char *message_id, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

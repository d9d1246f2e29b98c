/* answer.h - one streamed chat completion, from the request to its end. */
#pragma once

#include "verb.h"

/* What happens to the parts of an answer as they arrive; any may be NULL. */
struct ds_answer_sink {
	void (*reasoning)(void *self, const char *text, size_t size);
	void (*content)(void *self, const char *text, size_t size);
	void *self;
};

/* The whole answer; zeroed to begin. */
struct ds_answer {
	json_t *content, *reasoning; /* strings */
	json_t *usage;               /* or NULL */
	char *model, *finish_reason; /* or NULL */
	bool ended;                  /* the stream came to its proper end */
};

void ds_answer_deinit(struct ds_answer *a);

/* POST @request (its "stream" is set here) and follow the stream. -EINTR: SIGINT stopped it, @answer holds what came
 * until then. -EPIPE: the stream broke off. */
int ds_answer_fetch(struct ds_client *client, json_t *request, const struct ds_answer_sink *sink,
		    struct ds_answer *answer, struct ds_error *err);

/* A sentence on stderr if the answer reached its greatest length: with the reasoning hidden there may be nothing else. */
void ds_answer_tell_if_cut(const struct ds_answer *answer);

/* The options of run and chat that become members of a request. */
struct ds_answer_options {
	const char *model;
	const char *system;
	struct ds_number temperature, top_p, max_tokens, seed;
	bool hide_thinking;
};

/* clang-format off */
#define DS_ANSWER_OPTION(member) offsetof(struct ds_answer_options, member)
#define DS_ANSWER_FLAGS \
	{"model", 'm', DS_FLAG_TEXT, DS_ANSWER_OPTION(model), "NAME", "the model to ask"}, \
	{"system", 0, DS_FLAG_TEXT, DS_ANSWER_OPTION(system), "TEXT", "the system message"}, \
	{"temperature", 't', DS_FLAG_NUMBER, DS_ANSWER_OPTION(temperature), "X", "0 takes the likeliest token each time"}, \
	{"top-p", 0, DS_FLAG_NUMBER, DS_ANSWER_OPTION(top_p), "X", "the share of likely tokens to choose from"}, \
	{"max-tokens", 'n', DS_FLAG_COUNT, DS_ANSWER_OPTION(max_tokens), "N", "the longest answer"}, \
	{"seed", 0, DS_FLAG_COUNT, DS_ANSWER_OPTION(seed), "N", "makes a random answer repeatable"}, \
	{"hide-thinking", 0, DS_FLAG_BOOL, DS_ANSWER_OPTION(hide_thinking), NULL, "do not print the reasoning"}
/* clang-format on */

/* A request with the options, the given model (NULL: the daemon's default) and @messages, of which it takes a
 * reference. */
json_t *ds_answer_request(const struct ds_answer_options *options, const char *model, json_t *messages);
/* {"role", "content"}; the text must be UTF-8, else NULL. */
json_t *ds_answer_message(const char *role, const char *text, size_t size);

/* Prints an answer to people: reasoning on stderr (dimmed on a terminal), content on stdout. Zeroed but for @hide. */
struct ds_answer_printer {
	bool hide_thinking;
	bool thought, dimmed, said; /* what has been printed so far */
	size_t n_held;              /* newlines of the reasoning not printed yet: its end has none */
	char last;                  /* character of the content */
};

struct ds_answer_sink ds_answer_printer_sink(struct ds_answer_printer *p);
/* Ends the last line, whatever was printed. */
void ds_answer_printer_end(struct ds_answer_printer *p);

/* requests.h - what dsctl asks of ds-loader, which then runs as the caller, in the same sandbox: one request about the
 * files that came before it, one answer. A request is a type of message, a file here with its function, and a row in
 * requests.c. */
#pragma once

#include <deepseekd/format.h>

#include "message.h"
#include "plugins.h"

/* All borrowed. */
struct ds_request {
	const struct ds_plugins *plugins;
	const struct ds_file *files; /* [n_files] */
	size_t n_files;
	const json_t *json;         /* the payload, an object; NULL: the message had none */
	struct ds_message *message; /* whose descriptors may be taken */
	/* Tells dsctl how many of @total bytes are done; a negative answer must end the work. */
	int (*progress)(void *self, uint64_t done, uint64_t total, struct ds_error *err);
	void *self;
};

/* On success *@answer is a new reference. The codes of failures mean what they do for a load (docs/architecture.md);
 * -EBADR: a mistake in the request itself. */
typedef int ds_request_function(const struct ds_request *request, json_t **answer, struct ds_error *err);

struct ds_request_kind {
	uint16_t type;
	ds_request_function *function;
	size_t json_flags; /* jansson's, for its payload */
};

/* The request that message @type is; NULL: it is none. */
const struct ds_request_kind *ds_request_find(uint16_t type);

ds_request_function ds_request_inspect, ds_request_quantize, ds_request_render, ds_request_tokenize;

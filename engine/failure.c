/* failure.c - the FAILED event. */
#include "failure.h"

#include <jansson.h>
#include <string.h>

int ds_refuse(struct ds_failure *failure, const char *code, const char *param, const char *fmt, ...)
{
	va_list args;

	memset(failure, 0, sizeof(*failure));
	failure->code = code;
	snprintf(failure->param, sizeof(failure->param), "%s", param ? param : "");
	va_start(args, fmt);
	vsnprintf(failure->error.text, sizeof(failure->error.text), fmt, args);
	va_end(args);
	return -EINVAL;
}

int ds_refuse_prompt(struct ds_failure *failure, const char *more, size_t n, uint32_t context)
{
	ds_refuse(failure, DS_CONTEXT_LENGTH_EXCEEDED, NULL,
		  "the prompt has %s%zu tokens, which exceeds the available context size of %u tokens", more, n, context);
	failure->n_prompt_tokens = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
	failure->n_ctx = context;
	return -EINVAL;
}

void ds_failure_send(const struct ds_failure *failure, struct ds_outlet *outlet)
{
	/* A sentence cut inside a character is not JSON: then the code has to do. */
	json_t *json = json_pack("{s:s, s:s}", "code", failure->code, "message", failure->error.text);
	char text[1024];
	size_t size = 0;

	if (!json)
		json = json_pack("{s:s, s:s}", "code", failure->code, "message", failure->code);
	if (failure->param[0])
		json_object_set_new(json, "param", json_string(failure->param));
	if (failure->n_ctx > 0) {
		json_object_set_new(json, "n_prompt_tokens", json_integer(failure->n_prompt_tokens));
		json_object_set_new(json, "n_ctx", json_integer(failure->n_ctx));
	}
	if (json)
		size = json_dumpb(json, text, sizeof(text), JSON_COMPACT);
	json_decref(json);
	if (size == 0 || size > sizeof(text))
		size = (size_t)snprintf(text, sizeof(text), "{\"code\":\"%s\",\"message\":\"\"}", failure->code);
	if (ds_outlet_write(outlet, DS_EVENT_FAILED, text, size) < 0)
		ds_outlet_write(outlet, DS_EVENT_FAILED, text, size); /* the first try emptied the queue */
}

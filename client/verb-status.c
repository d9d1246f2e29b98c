/* verb-status.c - dsctl status: the daemon and its models, with what they cost and how often they were read. */
#include "output.h"
#include "verb.h"

#include <time.h>

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void print_daemon(const json_t *status)
{
	const json_t *requests = json_object_get(status, "requests");
	const char *model = text_of(status, "default_model");
	time_t started = number_of(status, "started_usec") / 1000000;
	char since[32] = "-";
	struct tm tm;

	if (started > 0 && localtime_r(&started, &tm))
		strftime(since, sizeof(since), "%F %T", &tm);
	printf("deepseekd %s: %s since %s, pid %" JSON_INTEGER_FORMAT "\n", text_of(status, "version"),
	       text_of(status, "state"), since, number_of(status, "pid"));
	printf("requests: %" JSON_INTEGER_FORMAT " running, %" JSON_INTEGER_FORMAT " queued; default model: %s\n\n",
	       number_of(requests, "running"), number_of(requests, "queued"), *model ? model : "none");
}

/* LOADS counts how often the weights were read, ENGINES how often an engine was started on them. */
static void add_model(struct ds_table *t, const json_t *model)
{
	const json_t *progress = json_object_get(model, "progress");
	json_int_t total = number_of(progress, "total");
	const char *state = text_of(model, "state");
	const char *reason = text_of(model, "reason");
	char size[32], context[64];

	ds_table_add(t, "%s", text_of(model, "name"));
	if (total > 0 && json_string_length(json_object_get(model, "reason")) == 0 &&
	    number_of(progress, "done") < total)
		ds_table_add(t, "%s %d%%", state, (int)(100.0 * number_of(progress, "done") / total));
	else
		ds_table_add(t, "%s", state);
	ds_table_add(t, "%s", ds_output_size(size, sizeof(size), number_of(model, "image_size")));
	ds_table_add(t, "%s", ds_output_size(size, sizeof(size), number_of(model, "mapped_size")));
	ds_table_add(t, "%s", ds_output_context(context, sizeof(context), model));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT, number_of(model, "kv_tokens_used"),
		     number_of(model, "kv_tokens"));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT, number_of(model, "running"));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT, number_of(model, "waiting"));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT, number_of(model, "loads"));
	ds_table_add(t, "%" JSON_INTEGER_FORMAT, number_of(model, "engine_starts"));
	ds_table_add(t, "%s", *reason ? reason : text_of(model, "warning"));
}

static int status(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	static const char *const heads[] = {"MODEL",   "STATE",   "MEMORY", "MAPPED",  "CONTEXT", "KV TOKENS",
					    "RUNNING", "WAITING", "LOADS",  "ENGINES", "REASON"};
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = DS_ARRAY_SIZE(heads)};
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	const json_t *model;
	size_t i;
	int r;

	r = ds_http_call(client->http, "GET", "/admin/v1/status", NULL, &answer, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(answer, false, err);
	print_daemon(answer);
	for (i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(&t, "%s", heads[i]);
	json_array_foreach (json_object_get(answer, "models"), i, model)
		add_model(&t, model);
	return ds_table_print(&t, client->legend, err);
}

const struct ds_verb ds_verb_status = {
	.name = "status",
	.usage = "",
	.help = "Show the daemon and its models: state, memory, loads, engine starts",
	.run = status,
};

/* models.c - GET /healthz and /v1/models, in OpenAI's shape. */
#include "reply.h"

void ds_healthz(struct ds_call *call)
{
	ds_reply_json(call, 200, json_pack("{s:s}", "status", "ok"));
}

static json_t *entry(const struct ds_daemon *daemon, const struct ds_model *model)
{
	json_t *whole = ds_model_describe(model, 0), *json;

	json = json_pack("{s:s, s:s, s:I, s:s, s:O, s:O, s:O}", "id", ds_model_get_config(model)->name, "object",
			 "model", "created", (json_int_t)(daemon->started_usec / 1000000), "owned_by", "deepseekd",
			 "state", json_object_get(whole, "state"), "aliases", json_object_get(whole, "aliases"),
			 "context", json_object_get(whole, "context"));
	json_decref(whole);
	return json;
}

void ds_models_list(struct ds_call *call)
{
	json_t *data = json_array();

	for (struct ds_model *m = NULL; (m = ds_models_next(call->daemon->models, m));)
		if (ds_access_may_use(call->daemon, call->subject, m))
			json_array_append_new(data, entry(call->daemon, m));
	ds_reply_json(call, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

void ds_models_show(struct ds_call *call)
{
	struct ds_model *model = ds_access_find_model(call->daemon, call->subject, call->name);

	if (!model)
		ds_reply_error(call, 404, "model_not_found", "model", "there is no model \"%s\"", call->name);
	else
		ds_reply_json(call, 200, entry(call->daemon, model));
}

/* verb-load.c - dsctl load and dsctl unload. Loading is watched until the model is ready; an interrupt stops the
 * watching, the daemon goes on. */
#include "bus.h"
#include "model.h"
#include "output.h"

#include <string.h>

/* The model's object as it is now; the caller owns it. */
static int look(struct ds_client *client, const char *name, json_t **out, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *status = NULL;
	json_t *model;
	size_t i;
	int r;

	r = ds_http_call(client->http, "GET", "/admin/v1/status", NULL, &status, err);
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(status, "models"), i, model)
		if (ds_model_is_called(model, name)) {
			*out = json_incref(model);
			return 0;
		}
	return ds_fail(err, -ENOENT, "%s: the daemon has forgotten this model while it was loading", name);
}

static void draw(const char *name, const json_t *model)
{
	const json_t *progress = json_object_get(model, "progress");
	double done = json_number_value(json_object_get(progress, "done"));
	double total = json_number_value(json_object_get(progress, "total"));
	char done_text[32], total_text[32];

	if (total > 0)
		fprintf(stderr, "\r%s: %3.0f%% of %s (%s)\033[K", name, 100 * done / total,
			ds_output_size(total_text, sizeof(total_text), total),
			ds_output_size(done_text, sizeof(done_text), done));
	else
		fprintf(stderr, "\r%s: loading\033[K", name);
	fflush(stderr);
}

/* Until @model is ready or has failed; ten looks a second. */
static int watch(struct ds_client *client, const char *name, json_t **model, struct ds_error *err)
{
	bool terminal = ds_output_has_colour(stderr);
	const char *state, *reason;
	int r = 0;

	for (;;) {
		state = json_string_value(json_object_get(*model, "state"));
		if (!state || (strcmp(state, "loading") != 0 && strcmp(state, "unloading") != 0))
			break;
		if (terminal)
			draw(name, *model);
		r = ds_http_sleep(client->http, 100, err);
		json_decref(*model);
		*model = NULL;
		if (r == 0)
			r = look(client, name, model, err);
		if (r < 0)
			break;
	}
	if (terminal)
		fputs("\r\033[K", stderr);
	if (r == -EINTR)
		fprintf(stderr, "dsctl: %s goes on loading; dsctl unload %s stops it\n", name, name);
	if (r < 0)
		return r;
	if (state && strcmp(state, "ready") == 0)
		return 0;
	if (state && strcmp(state, "absent") == 0)
		return ds_fail(err, -EREMOTEIO, "%s was unloaded again while it was loading", name);
	reason = json_string_value(json_object_get(*model, "reason"));
	return ds_fail(err, -EREMOTEIO, "%s is %s: %s", name, state ? state : "in no known state",
		       reason && *reason ? reason : "the daemon gives no reason");
}

/* By D-Bus, which answers when the model has settled. -ENOTCONN: by HTTP, please. */
static int manage(struct ds_client *client, const char *method, const char *name, const char *state,
		  struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	int r = ds_bus_call(client, "Manager", method, (const char *const[]){name, NULL}, NULL, err);

	if (r < 0)
		return r;
	if (!client->json) {
		fprintf(stderr, "%s is %s\n", name, state);
		return 0;
	}
	answer = json_pack("{s:s, s:s}", "name", name, "state", state);
	return answer ? ds_output_json(answer, false, err) : ds_fail(err, -ENOMEM, "no memory");
}

static int load_by_http(struct ds_client *client, const char *name, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *path = ds_http_model_path(name, "load");
	ds_cleanup(ds_json_freep) json_t *body = json_pack("{s:b}", "wait", 0);
	ds_cleanup(ds_json_freep) json_t *model = NULL;
	char size[32], mapped_size[32], mapped[64] = "", context[64];
	const char *warning;
	double n_mapped;
	int r;

	if (!path || !body)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_http_call(client->http, "POST", path, body, &model, err);
	if (r == 0)
		r = watch(client, name, &model, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(model, false, err);
	warning = json_string_value(json_object_get(model, "warning"));
	n_mapped = json_number_value(json_object_get(model, "mapped_size"));
	if (n_mapped > 0)
		snprintf(mapped, sizeof(mapped), ", %s mapped",
			 ds_output_size(mapped_size, sizeof(mapped_size), n_mapped));
	fprintf(stderr, "%s is ready: %s in memory%s, context of %s tokens\n", name,
		ds_output_size(size, sizeof(size), json_number_value(json_object_get(model, "image_size"))), mapped,
		ds_output_context(context, sizeof(context), model));
	if (warning && *warning)
		fprintf(stderr, "dsctl: warning: %s: %s\n", name, warning);
	return 0;
}

static int load(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	int r = manage(client, "LoadModel", args[0], "ready", err);

	return r == -ENOTCONN ? load_by_http(client, args[0], err) : r;
}

static int unload_by_http(struct ds_client *client, const char *name, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *path = ds_http_model_path(name, "unload");
	ds_cleanup(ds_json_freep) json_t *model = NULL;
	int r;

	if (!path)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_http_call(client->http, "POST", path, NULL, &model, err);
	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(model, false, err);
	fprintf(stderr, "%s is %s\n", name, json_string_value(json_object_get(model, "state")) ?: "unloaded");
	return 0;
}

static int unload(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	int r = manage(client, "UnloadModel", args[0], "absent", err);

	return r == -ENOTCONN ? unload_by_http(client, args[0], err) : r;
}

const struct ds_verb ds_verb_load = {
	.name = "load",
	.usage = "NAME",
	.help = "Read a model into memory, so that its first answer comes at once",
	.min_args = 1,
	.max_args = 1,
	.run = load,
};

const struct ds_verb ds_verb_unload = {
	.name = "unload",
	.usage = "NAME",
	.help = "Give back a model's memory",
	.min_args = 1,
	.max_args = 1,
	.run = unload,
};

/* verb-key.c - dsctl key add, ls and rm: the API keys of clients by TCP. A key is printed once, when it is made; the
 * daemon keeps its hash. */
#include "bus.h"
#include "output.h"

#include <string.h>
#include <time.h>

#define PATH "/admin/v1/keys"

static int add(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *body = json_pack("{s:s}", "name", args[0]);
	ds_cleanup(ds_json_freep) json_t *answer = NULL, *key = NULL;
	int r = ds_bus_call(client, "Keys", "Add", (const char *const[]){args[0], NULL}, &key, err);

	if (!body)
		return ds_fail(err, -EINVAL, "a key's name has up to 64 letters, digits and . _ : -");
	if (r == -ENOTCONN) {
		r = ds_http_call(client->http, "POST", PATH, body, &answer, err);
		key = r == 0 ? json_incref(json_object_get(answer, "key")) : NULL;
	}
	if (r < 0)
		return r;
	if (!json_is_string(key))
		return ds_fail(err, -EREMOTEIO, "the daemon's answer has no key");
	if (client->json) {
		json_object_set(body, "key", key);
		return ds_output_json(body, false, err);
	}
	puts(json_string_value(key));
	fprintf(stderr, "This key is shown only now. Clients send it as: Authorization: Bearer KEY\n");
	return 0;
}

/* [[name, created]] of D-Bus as [{"name", "created"}] of HTTP. */
static json_t *as_objects(const json_t *list)
{
	json_t *keys = json_array();
	const json_t *key;
	size_t i;

	json_array_foreach (list, i, key)
		json_array_append_new(keys, json_pack("{s:O, s:O}", "name", json_array_get(key, 0), "created",
						      json_array_get(key, 1)));
	return keys;
}

static int get_keys(struct ds_client *client, json_t **keys, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	int r = ds_bus_call(client, "Keys", "List", NULL, &answer, err);

	if (r == 0)
		*keys = as_objects(answer);
	if (r != -ENOTCONN)
		return r;
	r = ds_http_call(client->http, "GET", PATH, NULL, &answer, err);
	if (r == 0)
		*keys = json_incref(json_object_get(answer, "keys"));
	return r;
}

static int ls(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = 2};
	ds_cleanup(ds_json_freep) json_t *keys = NULL;
	const json_t *key;
	size_t i;
	int r = get_keys(client, &keys, err);

	if (r < 0)
		return r;
	if (client->json)
		return ds_output_json(keys, false, err);
	ds_table_add(&t, "NAME");
	ds_table_add(&t, "CREATED");
	json_array_foreach (keys, i, key) {
		time_t created = json_integer_value(json_object_get(key, "created"));
		char date[32] = "";
		struct tm tm;

		if (created > 0 && localtime_r(&created, &tm))
			strftime(date, sizeof(date), "%F %T", &tm);
		ds_table_add(&t, "%s", json_string_value(json_object_get(key, "name")) ?: "");
		ds_table_add(&t, "%s", date);
	}
	return ds_table_print(&t, client->legend, err);
}

static int rm(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *path = NULL;
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	int r = ds_bus_call(client, "Keys", "Remove", (const char *const[]){args[0], NULL}, NULL, err);

	if (r != -ENOTCONN)
		return r;
	path = ds_http_path(PATH, args[0]);
	return path ? ds_http_call(client->http, "DELETE", path, NULL, &answer, err)
		    : ds_fail(err, -ENOMEM, "no memory");
}

const struct ds_verb ds_verb_key_add = {
	.name = "key add",
	.usage = "NAME",
	.help = "Make an API key for a client by TCP, and print it",
	.min_args = 1,
	.max_args = 1,
	.run = add,
};

const struct ds_verb ds_verb_key_ls = {
	.name = "key ls",
	.usage = "",
	.help = "List the API keys",
	.run = ls,
};

const struct ds_verb ds_verb_key_rm = {
	.name = "key rm",
	.usage = "NAME",
	.help = "Remove an API key: whoever has it is refused from then on",
	.min_args = 1,
	.max_args = 1,
	.run = rm,
};

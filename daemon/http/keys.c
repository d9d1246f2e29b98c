/* keys.c - /admin/v1/keys: API keys are listed, made and removed. Only the answer to making one has its text. */
#include "../keys.h"
#include "reply.h"

#include <string.h>

void ds_admin_keys(struct ds_call *call)
{
	ds_reply_json(call, 200, json_pack("{s:o}", "keys", ds_keys_list(call->daemon->keys)));
}

static void refuse(struct ds_call *call, int r, const struct ds_error *err)
{
	if (r == -ENOENT)
		ds_reply_error(call, 404, "key_not_found", NULL, "%s", err->text);
	else if (r == -EEXIST)
		ds_reply_error(call, 409, "key_exists", NULL, "%s", err->text);
	else if (r == -EINVAL || r == -ENOSPC)
		ds_reply_error(call, 400, "invalid_request", "name", "%s", err->text);
	else
		ds_reply_error(call, 500, "internal", NULL, "%s", err->text);
}

void ds_admin_key_add(struct ds_call *call)
{
	const char *name = json_string_value(json_object_get(call->body, "name"));
	char text[DS_KEY_TEXT_SIZE];
	struct ds_error err;
	int r = ds_keys_add(call->daemon->keys, name ? name : "", text, &err);

	if (r < 0)
		refuse(call, r, &err);
	else
		ds_reply_json(call, 200, json_pack("{s:s, s:s}", "name", name, "key", text));
	explicit_bzero(text, sizeof(text));
}

void ds_admin_key_remove(struct ds_call *call)
{
	struct ds_error err;
	int r = ds_keys_remove(call->daemon->keys, call->name, &err);

	if (r < 0)
		refuse(call, r, &err);
	else
		ds_reply_json(call, 200, json_pack("{s:s}", "name", call->name));
}

/* keys.c - org.deepseekd1.Keys: API keys of clients by TCP, for whom polkit lets change the settings. */
#include "../keys.h"
#include "bus.h"

#include <string.h>

static int refuse(sd_bus_message *m, int r, const struct ds_error *err)
{
	return sd_bus_reply_method_errorf(m,
					  r == -ENOENT   ? "org.deepseekd1.Error.NoSuchKey"
					  : r == -EEXIST ? "org.deepseekd1.Error.KeyExists"
					  : r == -EINVAL ? SD_BUS_ERROR_INVALID_ARGS
					  : r == -ENOSPC ? SD_BUS_ERROR_LIMITS_EXCEEDED
							 : SD_BUS_ERROR_FAILED,
					  "%s", err->text);
}

static int read_name(sd_bus_message *m, const char **name)
{
	sd_bus_message_rewind(m, 1);
	return sd_bus_message_read(m, "s", name);
}

static int add(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	char text[DS_KEY_TEXT_SIZE];
	struct ds_error err;
	const char *name;
	int r = read_name(m, &name);

	if (r < 0)
		return r;
	r = ds_keys_add(ds_bus_daemon(bus)->keys, name, text, &err);
	r = r < 0 ? refuse(m, r, &err) : sd_bus_reply_method_return(m, "s", text);
	explicit_bzero(text, sizeof(text));
	return r;
}

static int remove_key(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	struct ds_error err;
	const char *name;
	int r = read_name(m, &name);

	if (r < 0)
		return r;
	r = ds_keys_remove(ds_bus_daemon(bus)->keys, name, &err);
	return r < 0 ? refuse(m, r, &err) : sd_bus_reply_method_return(m, "");
}

static int list(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	ds_cleanup(json_decrefp) json_t *keys = ds_keys_list(ds_bus_daemon(bus)->keys);
	ds_cleanup(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const json_t *key;
	size_t i;
	int r = sd_bus_message_new_method_return(m, &reply);

	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(st)");
	json_array_foreach (keys, i, key)
		if (r >= 0)
			r = sd_bus_message_append(reply, "(st)", json_string_value(json_object_get(key, "name")),
						  (uint64_t)json_integer_value(json_object_get(key, "created")));
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r >= 0 ? sd_bus_send(NULL, reply, NULL) : r;
}

static int method_add(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_MANAGE_CONFIG, NULL, add);
}

static int method_remove(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_MANAGE_CONFIG, NULL, remove_key);
}

static int method_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_MANAGE_CONFIG, NULL, list);
}

const sd_bus_vtable ds_bus_keys[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_NAMES("Add", "s", SD_BUS_PARAM(name), "s", SD_BUS_PARAM(key), method_add,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Remove", "s", SD_BUS_PARAM(name), "", , method_remove, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("List", "", , "a(st)", SD_BUS_PARAM(keys), method_list, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

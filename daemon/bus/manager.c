/* manager.c - org.deepseekd1.Manager: the daemon itself, and generating with any of its models. */
#include "parts.h"

#include <string.h>

/* What a client may rely on beside the version. */
static const char *const features[] = {"complete", "generate", "handle-token", "inhibit", "reload", NULL};

static int get_version(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_features(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply,
			void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append_strv(reply, (char **)(uintptr_t)features);
}

static int get_state(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		     void *userdata, sd_bus_error *error)
{
	const struct ds_bus *bus = userdata;

	return sd_bus_message_append(reply, "s", ds_daemon_state(bus->spec.daemon));
}

static int get_state_reason(sd_bus *b, const char *path, const char *interface, const char *property,
			    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct ds_bus *bus = userdata;

	return sd_bus_message_append(reply, "s", bus->spec.daemon->reason);
}

/* Models */

static int load_model(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	const char *name;
	int r = sd_bus_message_rewind(m, 1);

	if (r >= 0)
		r = sd_bus_message_read(m, "s", &name);
	return r < 0 ? r : ds_bus_model_load(bus, m, name);
}

static int unload_model(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	const char *name;
	int r = sd_bus_message_rewind(m, 1);

	if (r >= 0)
		r = sd_bus_message_read(m, "s", &name);
	return r < 0 ? r : ds_bus_model_unload(bus, m, name);
}

static int with_model(struct ds_bus *bus, sd_bus_message *m, ds_bus_then_fn *then)
{
	const char *details[] = {"model", NULL, NULL};
	int r = sd_bus_message_read(m, "s", &details[1]);

	return r < 0 ? r : ds_bus_with_access(bus, m, DS_ACTION_LOAD_UNLOAD, details, then);
}

static int method_load_model(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return with_model(userdata, m, load_model);
}

static int method_unload_model(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return with_model(userdata, m, unload_model);
}

/* The configuration */

struct reload {
	struct ds_bus *bus;
	sd_bus_message *message; /* referenced */
};

static void on_reloaded(void *arg, const char *problem)
{
	struct reload *reload = arg;

	if (problem)
		ds_bus_refuse(reload->message, DS_BUS_RELOAD_FAILED, "%s", problem);
	else
		sd_bus_reply_method_return(reload->message, "");
	ds_bus_flush(reload->bus);
	sd_bus_message_unref(reload->message);
	free(reload);
}

static int reload(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	struct reload *reload = malloc(sizeof(*reload));

	if (!reload)
		return -ENOMEM;
	*reload = (struct reload){.bus = bus, .message = sd_bus_message_ref(m)};
	bus->spec.reload(bus->spec.arg, on_reloaded, reload);
	return 1;
}

static int method_reload(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_MANAGE_CONFIG, NULL, reload);
}

/* Use */

static int generate(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	return ds_bus_request_call(bus, m, subject, false);
}

static int method_generate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_USE, NULL, generate);
}

static int complete(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	return ds_bus_request_call(bus, m, subject, true);
}

static int method_complete(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_USE, NULL, complete);
}

static int method_inhibit(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_USE, NULL, ds_bus_inhibit);
}

/* Described in share/dbus-1/interfaces/org.deepseekd1.Manager.xml. */
const sd_bus_vtable ds_bus_manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("StateReason", "s", get_state_reason, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_METHOD_WITH_NAMES("Generate", "ssa{sv}", SD_BUS_PARAM(model) SD_BUS_PARAM(input) SD_BUS_PARAM(options),
				 "oh", SD_BUS_PARAM(request) SD_BUS_PARAM(stream), method_generate,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Complete", "ssa{sv}", SD_BUS_PARAM(model) SD_BUS_PARAM(input) SD_BUS_PARAM(options),
				 "sa{sv}", SD_BUS_PARAM(text) SD_BUS_PARAM(details), method_complete,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("LoadModel", "s", SD_BUS_PARAM(name), "", , method_load_model,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("UnloadModel", "s", SD_BUS_PARAM(name), "", , method_unload_model,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Reload", "", "", method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Inhibit", "ss", SD_BUS_PARAM(who) SD_BUS_PARAM(why), "h", SD_BUS_PARAM(descriptor),
				 method_inhibit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

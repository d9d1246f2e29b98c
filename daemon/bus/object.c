/* object.c - org.deepseekd1.Request: requests as objects, there for their owner and root and for nobody else.
 *
 * Who asks is known only when the bus has said so, which a vtable of sd-bus cannot wait for: calls to these paths are
 * answered here by hand, from one table. To others a request looks the same as one that does not exist. */
#include "parts.h"

#include <string.h>

static const char *const states[] = {
	[DS_BUS_QUEUED] = "queued", [DS_BUS_PREFILL] = "prefill", [DS_BUS_RUNNING] = "running", [DS_BUS_DONE] = "done"};

static int append_owner(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "u", r->owner->uid);
}

static int append_model(sd_bus_message *m, const struct ds_bus_request *r)
{
	ds_cleanup(ds_freep) char *path = NULL;
	int e = sd_bus_path_encode(DS_BUS_MODEL_PATH, ds_model_get_config(r->model)->name, &path);

	return e < 0 ? e : sd_bus_message_append(m, "o", path);
}

static int append_state(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "s", states[r->state]);
}

static int append_position(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "u", r->request ? (uint32_t)ds_request_get_position(r->request) : 0);
}

static int append_prompt_tokens(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "u", r->usage.prompt_tokens);
}

static int append_completion_tokens(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "u", r->usage.completion_tokens);
}

static const struct property {
	const char *name, *type, *emits;
	int (*append)(sd_bus_message *m, const struct ds_bus_request *r);
} properties[] = {
	{"Owner", "u", "const", append_owner},
	{"Model", "o", "const", append_model},
	{"State", "s", "true", append_state},
	{"Position", "u", "false", append_position},
	{"PromptTokens", "u", "false", append_prompt_tokens},
	{"CompletionTokens", "u", "false", append_completion_tokens},
};

static const char introspection_head[] =
	"<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"
	"\"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n"
	"<node>\n"
	" <interface name=\"org.freedesktop.DBus.Introspectable\">\n"
	"  <method name=\"Introspect\"><arg name=\"xml_data\" type=\"s\" direction=\"out\"/></method>\n"
	" </interface>\n"
	" <interface name=\"org.freedesktop.DBus.Properties\">\n"
	"  <method name=\"Get\">\n"
	"   <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n"
	"   <arg name=\"property_name\" type=\"s\" direction=\"in\"/>\n"
	"   <arg name=\"value\" type=\"v\" direction=\"out\"/>\n"
	"  </method>\n"
	"  <method name=\"GetAll\">\n"
	"   <arg name=\"interface_name\" type=\"s\" direction=\"in\"/>\n"
	"   <arg name=\"props\" type=\"a{sv}\" direction=\"out\"/>\n"
	"  </method>\n"
	"  <signal name=\"PropertiesChanged\">\n"
	"   <arg name=\"interface_name\" type=\"s\"/>\n"
	"   <arg name=\"changed_properties\" type=\"a{sv}\"/>\n"
	"   <arg name=\"invalidated_properties\" type=\"as\"/>\n"
	"  </signal>\n"
	" </interface>\n"
	" <interface name=\"" DS_BUS_REQUEST "\">\n"
	"  <method name=\"Cancel\"/>\n"
	"  <signal name=\"Finished\">\n"
	"   <arg name=\"outcome\" type=\"s\"/>\n"
	"   <arg name=\"usage\" type=\"a{sv}\"/>\n"
	"  </signal>\n";

static int append_property(sd_bus_message *m, const struct property *p, const struct ds_bus_request *r)
{
	int e = sd_bus_message_open_container(m, 'v', p->type);

	if (e >= 0)
		e = p->append(m, r);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

/* a{sv}: all, or @only. */
static int append_properties(sd_bus_message *m, const struct ds_bus_request *r, const char *only)
{
	int e = sd_bus_message_open_container(m, 'a', "{sv}");

	for (size_t i = 0; e >= 0 && i < DS_ARRAY_SIZE(properties); i++) {
		if (only && strcmp(properties[i].name, only))
			continue;
		e = sd_bus_message_open_container(m, 'e', "sv");
		if (e >= 0)
			e = sd_bus_message_append(m, "s", properties[i].name);
		if (e >= 0)
			e = append_property(m, &properties[i], r);
		if (e >= 0)
			e = sd_bus_message_close_container(m);
	}
	return e < 0 ? e : sd_bus_message_close_container(m);
}

/* a{sa{sv}} */
static int append_interfaces(sd_bus_message *m, const struct ds_bus_request *r)
{
	int e = sd_bus_message_open_container(m, 'a', "{sa{sv}}");

	if (e >= 0)
		e = sd_bus_message_open_container(m, 'e', "sa{sv}");
	if (e >= 0)
		e = sd_bus_message_append(m, "s", DS_BUS_REQUEST);
	if (e >= 0)
		e = append_properties(m, r, NULL);
	if (e >= 0)
		e = sd_bus_message_close_container(m);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

int ds_bus_object_append(sd_bus_message *m, const struct ds_bus_request *r)
{
	int e = sd_bus_message_open_container(m, 'e', "oa{sa{sv}}");

	if (e >= 0)
		e = sd_bus_message_append(m, "o", r->path);
	if (e >= 0)
		e = append_interfaces(m, r);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

int ds_bus_usage_append(sd_bus_message *m, const struct ds_bus_request *r)
{
	return sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "prompt_tokens", "u", r->usage.prompt_tokens,
				     "cached_tokens", "u", r->usage.cached_tokens, "completion_tokens", "u",
				     r->usage.completion_tokens, "reasoning_tokens", "u", r->usage.reasoning_tokens);
}

/* Signals */

static void send_to_owner(const struct ds_bus_request *r, sd_bus_message *m, int e)
{
	if (e >= 0)
		e = sd_bus_message_set_destination(m, r->owner->bus_name);
	if (e >= 0)
		sd_bus_send(r->bus->bus, m, NULL);
	sd_bus_message_unref(m);
}

void ds_bus_object_added(struct ds_bus_request *r)
{
	sd_bus_message *m = NULL;
	int e = sd_bus_message_new_signal(r->bus->bus, &m, DS_BUS_PATH, "org.freedesktop.DBus.ObjectManager",
					  "InterfacesAdded");

	if (e >= 0)
		e = sd_bus_message_append(m, "o", r->path);
	if (e >= 0)
		e = append_interfaces(m, r);
	send_to_owner(r, m, e);
}

void ds_bus_object_changed(struct ds_bus_request *r)
{
	sd_bus_message *m = NULL;
	int e;

	if (!r->is_announced)
		return;
	e = sd_bus_message_new_signal(r->bus->bus, &m, r->path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
	if (e >= 0)
		e = sd_bus_message_append(m, "s", DS_BUS_REQUEST);
	if (e >= 0)
		e = append_properties(m, r, "State");
	if (e >= 0)
		e = sd_bus_message_append(m, "as", 0);
	send_to_owner(r, m, e);
}

static int append_finished(sd_bus_message *m, const struct ds_bus_request *r)
{
	int e = sd_bus_message_append(m, "s", r->outcome);

	if (e >= 0)
		e = sd_bus_message_open_container(m, 'a', "{sv}");
	if (e >= 0)
		e = ds_bus_usage_append(m, r);
	if (e >= 0 && r->code[0])
		e = sd_bus_message_append(m, "{sv}{sv}", "error", "s", ds_bus_error_name(r->code), "message", "s",
					  r->message);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

void ds_bus_object_finished(struct ds_bus_request *r)
{
	sd_bus_message *m = NULL;
	int e = sd_bus_message_new_signal(r->bus->bus, &m, r->path, DS_BUS_REQUEST, "Finished");

	if (e >= 0)
		e = append_finished(m, r);
	send_to_owner(r, m, e);
	m = NULL;
	e = sd_bus_message_new_signal(r->bus->bus, &m, DS_BUS_PATH, "org.freedesktop.DBus.ObjectManager",
				      "InterfacesRemoved");
	if (e >= 0)
		e = sd_bus_message_append(m, "oas", r->path, 1, DS_BUS_REQUEST);
	send_to_owner(r, m, e);
}

/* Calls */

static int reply(sd_bus_message *m, sd_bus_message *with, int e)
{
	if (e >= 0)
		e = sd_bus_send(NULL, with, NULL);
	sd_bus_message_unref(with);
	return e < 0 ? e : 1;
}

static int method_get(sd_bus_message *m, struct ds_bus_request *r)
{
	sd_bus_message *answer = NULL;
	const char *interface, *name;
	size_t i = 0;
	int e = sd_bus_message_read(m, "ss", &interface, &name);

	if (e < 0)
		return e;
	while (i < DS_ARRAY_SIZE(properties) && strcmp(properties[i].name, name))
		i++;
	if ((*interface && strcmp(interface, DS_BUS_REQUEST)) || i == DS_ARRAY_SIZE(properties))
		return ds_bus_refuse(m, SD_BUS_ERROR_UNKNOWN_PROPERTY, "there is no property %.100s", name);
	e = sd_bus_message_new_method_return(m, &answer);
	if (e >= 0)
		e = append_property(answer, &properties[i], r);
	return reply(m, answer, e);
}

static int method_get_all(sd_bus_message *m, struct ds_bus_request *r)
{
	sd_bus_message *answer = NULL;
	const char *interface;
	int e = sd_bus_message_read(m, "s", &interface);

	if (e < 0)
		return e;
	if (*interface && strcmp(interface, DS_BUS_REQUEST) && strncmp(interface, "org.freedesktop.DBus.", 21))
		return ds_bus_refuse(m, SD_BUS_ERROR_UNKNOWN_INTERFACE, "there is no interface %.100s", interface);
	e = sd_bus_message_new_method_return(m, &answer);
	if (e >= 0 && strncmp(interface, "org.freedesktop.DBus.", 21))
		e = append_properties(answer, r, NULL);
	else if (e >= 0)
		e = sd_bus_message_append(answer, "a{sv}", 0);
	return reply(m, answer, e);
}

static int method_set(sd_bus_message *m, struct ds_bus_request *r)
{
	return ds_bus_refuse(m, SD_BUS_ERROR_PROPERTY_READ_ONLY, "properties of a request cannot be set");
}

static int method_introspect(sd_bus_message *m, struct ds_bus_request *r)
{
	char text[4096];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s", introspection_head);

	for (size_t i = 0; i < DS_ARRAY_SIZE(properties); i++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n,
			"  <property name=\"%s\" type=\"%s\" access=\"read\">\n"
			"   <annotation name=\"org.freedesktop.DBus.Property.EmitsChangedSignal\" value=\"%s\"/>\n"
			"  </property>\n",
			properties[i].name, properties[i].type, properties[i].emits);
	snprintf(text + n, sizeof(text) - n, " </interface>\n</node>\n");
	return sd_bus_reply_method_return(m, "s", text) < 0 ? -EIO : 1;
}

static int method_cancel(sd_bus_message *m, struct ds_bus_request *r)
{
	sd_bus_message_ref(m);
	ds_bus_request_cancel(r);
	sd_bus_reply_method_return(m, "");
	sd_bus_message_unref(m);
	return 1;
}

static const struct {
	const char *interface, *member, *arguments;
	int (*call)(sd_bus_message *m, struct ds_bus_request *r);
} methods[] = {
	{"org.freedesktop.DBus.Properties", "Get", "ss", method_get},
	{"org.freedesktop.DBus.Properties", "GetAll", "s", method_get_all},
	{"org.freedesktop.DBus.Properties", "Set", "ssv", method_set},
	{"org.freedesktop.DBus.Introspectable", "Introspect", "", method_introspect},
	{DS_BUS_REQUEST, "Cancel", "", method_cancel},
};

void ds_bus_object_folder(char *out, size_t size, const char *bus_name)
{
	snprintf(out, size, "%s", bus_name + (*bus_name == ':'));
	for (char *p = out; *p; p++)
		*p = *p == '.' ? '_' : *p;
}

bool ds_bus_object_is_visible(const struct ds_bus_request *r, const struct ds_subject *to)
{
	return to->uid == r->owner->uid || to->uid == 0;
}

static struct ds_bus_request *find(const struct ds_bus *bus, const char *path, const struct ds_subject *subject)
{
	struct ds_bus_request *r = bus->requests;

	while (r && (strcmp(r->path, path) || (subject && !ds_bus_object_is_visible(r, subject))))
		r = r->next;
	return r;
}

static int refuse_object(sd_bus_message *m)
{
	return ds_bus_refuse(m, SD_BUS_ERROR_UNKNOWN_OBJECT, "there is no object %s", sd_bus_message_get_path(m));
}

/* By somebody who may end requests of others. */
static int cancel_any(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	struct ds_bus_request *r = find(bus, sd_bus_message_get_path(m), NULL);

	return r ? method_cancel(m, r) : refuse_object(m);
}

/* @m is for an object that its sender cannot see, or that does not exist: the answer is the same. */
static int call_unseen(struct ds_bus *bus, sd_bus_message *m, const struct ds_subject *subject)
{
	const char *under = sd_bus_message_get_path(m) + strlen(DS_BUS_REQUEST_PATH "/");
	char own[sizeof(subject->bus_name)];

	ds_bus_object_folder(own, sizeof(own), subject->bus_name);
	if (!sd_bus_message_is_method_call(m, DS_BUS_REQUEST, "Cancel") ||
	    (!strncmp(under, own, strlen(own)) && under[strlen(own)] == '/')) /* its own, which has ended */
		return refuse_object(m);
	return ds_bus_with_access(bus, m, DS_ACTION_CANCEL_OTHERS, NULL, cancel_any);
}

static int call(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	const char *path = sd_bus_message_get_path(m), *interface = sd_bus_message_get_interface(m);
	const char *member = sd_bus_message_get_member(m);
	struct ds_bus_request *r = find(bus, path, subject);

	if (!r)
		return call_unseen(bus, m, subject);
	for (size_t i = 0; i < DS_ARRAY_SIZE(methods); i++) {
		if (strcmp(methods[i].member, member) || (interface && strcmp(methods[i].interface, interface)))
			continue;
		if (!sd_bus_message_has_signature(m, methods[i].arguments))
			return ds_bus_refuse(m, SD_BUS_ERROR_INVALID_ARGS, "%s takes (%s)", member,
					     methods[i].arguments);
		return methods[i].call(m, r);
	}
	return ds_bus_refuse(m, SD_BUS_ERROR_UNKNOWN_METHOD, "there is no method %s", member);
}

int ds_bus_object_on_call(sd_bus_message *m, void *bus, sd_bus_error *error)
{
	if (!sd_bus_message_is_method_call(m, NULL, NULL) || !strcmp(sd_bus_message_get_path(m), DS_BUS_REQUEST_PATH))
		return 0;
	return ds_bus_with_subject(bus, m, call);
}

/* manager.c - org.deepseekd1.Manager: version, state, loading a model, and an answer through a pipe. */
#include "../access.h"
#include "bus.h"

#include <string.h>

#define NO_SUCH_MODEL "org.deepseekd1.Error.NoSuchModel"
#define LOAD_FAILED "org.deepseekd1.Error.LoadFailed"

static int get_version(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_state(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		     void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", ds_daemon_state(ds_bus_daemon(userdata)));
}

/* Loading */

struct load {
	struct ds_bus *bus;
	sd_bus_message *message; /* referenced */
	struct ds_model *model;  /* likewise */
};

static void on_settled(void *arg)
{
	struct load *load = arg;

	if (ds_model_get_state(load->model) == DS_MODEL_READY)
		sd_bus_reply_method_return(load->message, "");
	else
		sd_bus_reply_method_errorf(load->message, LOAD_FAILED, "the model cannot be loaded: %s",
					   ds_model_get_reason(load->model));
	ds_bus_flush(load->bus);
	sd_bus_message_unref(load->message);
	ds_model_unref(load->model);
	free(load);
}

static int load_model(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	struct ds_model *model;
	struct load *load;
	const char *name;
	int r;

	sd_bus_message_rewind(m, 1);
	r = sd_bus_message_read(m, "s", &name);
	if (r < 0)
		return r;
	model = ds_models_find(ds_bus_daemon(bus)->models, name);
	if (!model)
		return sd_bus_reply_method_errorf(m, NO_SUCH_MODEL, "there is no model \"%s\"", name);
	load = calloc(1, sizeof(*load));
	if (!load)
		return -ENOMEM;
	*load = (struct load){.bus = bus, .message = sd_bus_message_ref(m), .model = ds_model_ref(model)};
	ds_model_load(model, true);
	if (ds_model_get_state(model) != DS_MODEL_LOADING && ds_model_get_state(model) != DS_MODEL_UNLOADING)
		on_settled(load);
	else if (!ds_model_wait(model, on_settled, load))
		return -ENOMEM;
	return 1;
}

static int method_load_model(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *details[] = {"model", NULL, NULL};
	int r = sd_bus_message_read(m, "s", &details[1]);

	return r < 0 ? r : ds_bus_with_access(userdata, m, DS_ACTION_LOAD_UNLOAD, details, load_model);
}

/* Generating */

/* Says no to the caller. Returns 1: answered. */
static int refuse_option(sd_bus_message *m, const char *name, const char *rule)
{
	sd_bus_reply_method_errorf(m, SD_BUS_ERROR_INVALID_ARGS, "option %s: %s", name, rule);
	return 1;
}

static int take_format(sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	const char *format;

	if (sd_bus_message_read(m, "v", "s", &format) < 0 || (strcmp(format, "text") && strcmp(format, "json")))
		return refuse_option(m, "format", "must be text or json (s)");
	spec->json = !strcmp(format, "json");
	return 0;
}

static int take_max_tokens(sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	uint32_t n;

	if (sd_bus_message_read(m, "v", "u", &n) < 0 || n < 1 || n > INT32_MAX)
		return refuse_option(m, "max_tokens", "must be a number (u) of at least 1");
	json_object_set_new(spec->generate, "max_tokens", json_integer(n));
	return 0;
}

static int take_temperature(sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	double value;

	if (sd_bus_message_read(m, "v", "d", &value) < 0 || !(value >= 0 && value <= 2))
		return refuse_option(m, "temperature", "must be a number (d) from 0 to 2");
	json_object_set_new(json_object_get(spec->generate, "sampling"), "temperature", json_real(value));
	return 0;
}

static int take_thinking(sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	int value;

	if (sd_bus_message_read(m, "v", "b", &value) < 0)
		return refuse_option(m, "thinking", "must be true or false (b)");
	json_object_set_new(spec->generate, "thinking", json_boolean(value));
	return 0;
}

static const struct {
	const char *name;
	int (*take)(sd_bus_message *m, struct ds_bus_stream_spec *spec); /* 1: it has answered */
} options[] = {
	{"format", take_format},
	{"max_tokens", take_max_tokens},
	{"temperature", take_temperature},
	{"thinking", take_thinking},
};

static int take_options(sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *name = "";
		size_t i = 0;

		r = sd_bus_message_read(m, "s", &name);
		while (i < DS_ARRAY_SIZE(options) && strcmp(options[i].name, name))
			i++;
		if (r >= 0 && i == DS_ARRAY_SIZE(options))
			return refuse_option(m, name, "is not known (allowed: format, max_tokens, temperature, thinking)");
		r = r < 0 ? r : options[i].take(m, spec);
		if (r != 0)
			return r;
		r = sd_bus_message_exit_container(m);
	}
	return r;
}

/* 0: @spec is what the call asks for; 1: it was answered with an error. */
static int read_generate(struct ds_bus *bus, sd_bus_message *m, struct ds_bus_stream_spec *spec)
{
	uint64_t max_body = ds_bus_daemon(bus)->config->max_body;
	const char *name, *prompt;
	int r;

	r = sd_bus_message_read(m, "ss", &name, &prompt);
	if (r < 0)
		return r;
	spec->model = ds_access_find_model(ds_bus_daemon(bus), spec->subject, name);
	if (!spec->model) {
		sd_bus_reply_method_errorf(m, NO_SUCH_MODEL, "there is no model \"%s\"", name);
		return 1;
	}
	if (strlen(prompt) > max_body) {
		sd_bus_reply_method_errorf(m, SD_BUS_ERROR_LIMITS_EXCEEDED,
					   "the prompt has %zu bytes, and listen.max_body allows %llu", strlen(prompt),
					   (unsigned long long)max_body);
		return 1;
	}
	spec->generate = json_pack("{s:[{s:s, s:s}], s:{}}", "messages", "role", "user", "content", prompt, "sampling");
	return spec->generate ? take_options(m, spec) : -ENOMEM;
}

static int generate(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	struct ds_bus_stream_spec spec = {.subject = subject};
	ds_cleanup(ds_closep) int fd = -1;
	int r = read_generate(bus, m, &spec);

	if (r != 0) {
		json_decref(spec.generate);
		return r;
	}
	ds_access_limit_tokens(ds_bus_daemon(bus), subject, spec.generate);
	json_object_set_new(spec.generate, "owner", json_string(subject->owner));
	fd = ds_bus_stream_new(ds_bus_streams(bus), ds_bus_daemon(bus), &spec);
	return fd < 0 ? fd : sd_bus_reply_method_return(m, "h", fd);
}

static int method_generate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return ds_bus_with_access(userdata, m, DS_ACTION_USE, NULL, generate);
}

const sd_bus_vtable ds_bus_manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_METHOD_WITH_NAMES("LoadModel", "s", SD_BUS_PARAM(name), "", , method_load_model,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Generate", "ssa{sv}", SD_BUS_PARAM(model) SD_BUS_PARAM(prompt) SD_BUS_PARAM(options),
				 "h", SD_BUS_PARAM(stream), method_generate, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

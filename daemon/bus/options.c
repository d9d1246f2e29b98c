/* options.c - what a call of Generate or Complete asks for: its input and its a{sv}, of which every entry is known or
 * the call is refused. Whole numbers may have any integer type, so that loosely typed languages need not care. */
#include "../sampling.h"
#include "parts.h"

#include <ctype.h>
#include <string.h>

#define STOPS_MAX 16
#define TOKEN_MAX 64

/* A variant's value as JSON: scalars, else an empty list. NULL: no memory, or the message is broken. */
static json_t *read_scalar(sd_bus_message *m)
{
	union {
		uint8_t y;
		int16_t n;
		uint16_t q;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
		int b;
		const char *s;
	} v;
	const char *type;
	json_t *json = NULL;

	if (sd_bus_message_peek_type(m, NULL, &type) < 0)
		return NULL;
	if (strlen(type) != 1 || !strchr("ynqiuxtdbs", *type))
		return sd_bus_message_skip(m, "v") < 0 ? NULL : json_array();
	if (sd_bus_message_enter_container(m, 'v', type) < 0 || sd_bus_message_read_basic(m, *type, &v) < 0)
		return NULL;
	switch (*type) {
	case 'y':
		json = json_integer(v.y);
		break;
	case 'n':
		json = json_integer(v.n);
		break;
	case 'q':
		json = json_integer(v.q);
		break;
	case 'i':
		json = json_integer(v.i);
		break;
	case 'u':
		json = json_integer(v.u);
		break;
	case 'x':
		json = json_integer(v.x);
		break;
	case 't': /* what does not fit is out of any bounds */
		json = json_integer(v.t > INT64_MAX ? INT64_MAX : (json_int_t)v.t);
		break;
	case 'd':
		json = json_real(v.d);
		break;
	case 'b':
		json = json_boolean(v.b);
		break;
	case 's':
		json = json_string(v.s);
		break;
	}
	sd_bus_message_exit_container(m);
	/* Only a number that is none is no JSON. */
	return json || *type != 'd' ? json : json_array();
}

/* Each: 0: taken; -EINVAL: @err says what the value must be; else broken. */

static int take_text(sd_bus_message *m, const char **to, struct ds_error *err)
{
	return sd_bus_message_read(m, "v", "s", to) < 0 ? ds_fail(err, -EINVAL, "must be text (s)") : 0;
}

static int take_bool(sd_bus_message *m, bool *to, struct ds_error *err)
{
	int value;

	if (sd_bus_message_read(m, "v", "b", &value) < 0)
		return ds_fail(err, -EINVAL, "must be true or false (b)");
	*to = value;
	return 0;
}

static int take_format(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	const char *format = "";

	if (wish->is_whole)
		return ds_fail(err, -EINVAL, "is for Generate only");
	if (take_text(m, &format, err) < 0 || (strcmp(format, "text") && strcmp(format, "json")))
		return ds_fail(err, -EINVAL, "must be text or json (s)");
	wish->json = !strcmp(format, "json");
	return 0;
}

/* It becomes the last element of an object's path. */
static int take_handle_token(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	const char *p;

	if (take_text(m, &wish->token, err) < 0)
		return -EINVAL;
	for (p = wish->token; isalnum((unsigned char)*p) || *p == '_'; p++)
		;
	if (*p || p == wish->token || p - wish->token > TOKEN_MAX)
		return ds_fail(err, -EINVAL, "must be 1 to %d letters, digits and underscores", TOKEN_MAX);
	return 0;
}

static int take_max_tokens(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	json_t *n = read_scalar(m);

	if (!json_is_integer(n) || json_integer_value(n) < 1 || json_integer_value(n) > INT32_MAX) {
		json_decref(n);
		return ds_fail(err, -EINVAL, "must be a whole number from 1 to %d", INT32_MAX);
	}
	json_object_set_new(wish->generate, "max_tokens", n);
	return 0;
}

static int take_messages(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	return take_text(m, &wish->messages, err);
}

static int take_raw(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	return take_bool(m, &wish->raw, err);
}

static int take_stop(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	json_t *list = json_array();
	const char *text;
	int r;

	json_object_set_new(wish->generate, "stop", list);
	if (sd_bus_message_enter_container(m, 'v', "as") < 0 || sd_bus_message_enter_container(m, 'a', "s") < 0)
		return ds_fail(err, -EINVAL, "must be a list of texts (as)");
	while ((r = sd_bus_message_read(m, "s", &text)) > 0) {
		if (!*text || json_array_size(list) == STOPS_MAX)
			return ds_fail(err, -EINVAL, "must be at most %d texts, none of them empty", STOPS_MAX);
		json_array_append_new(list, json_string(text));
	}
	sd_bus_message_exit_container(m);
	sd_bus_message_exit_container(m);
	return r;
}

static int take_system(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	return take_text(m, &wish->system, err);
}

static int take_thinking(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	bool thinking = false;
	int r = take_bool(m, &thinking, err);

	if (r == 0)
		json_object_set_new(wish->generate, "thinking", json_boolean(thinking));
	return r;
}

static int take_tools(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err)
{
	return take_text(m, &wish->tools, err);
}

static const struct {
	const char *name;
	int (*take)(sd_bus_message *m, struct ds_bus_wish *wish, struct ds_error *err);
} options[] = {
	{"format", take_format},
	{"handle_token", take_handle_token},
	{"max_tokens", take_max_tokens},
	{"messages", take_messages},
	{"raw", take_raw},
	{"stop", take_stop},
	{"system", take_system},
	{"thinking", take_thinking},
	{"tools", take_tools},
};

static int take_sampling(const json_t *catalog, sd_bus_message *m, const char *name, struct ds_bus_wish *wish,
			 struct ds_error *err)
{
	json_t *value = read_scalar(m);
	int r;

	if (!value)
		return -ENOMEM;
	r = ds_sampling_take(json_object_get(wish->generate, "sampling"), catalog, name, value, err);
	json_decref(value);
	if (r == 0)
		return ds_fail(err, -EINVAL, "is not known");
	return r < 0 ? r : 0;
}

/* The entry @name, whose value comes next in @m. */
static int take(const json_t *catalog, sd_bus_message *m, const char *name, struct ds_bus_wish *wish,
		struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(options); i++)
		if (!strcmp(options[i].name, name))
			return options[i].take(m, wish, err);
	return take_sampling(catalog, m, name, wish, err);
}

static int take_all(const struct ds_daemon *daemon, sd_bus_message *m, struct ds_bus_wish *wish)
{
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		struct ds_error err = {""};
		const char *name = "";

		r = sd_bus_message_read(m, "s", &name);
		if (r >= 0)
			r = take(daemon->catalog, m, name, wish, &err);
		if (r == -EINVAL)
			return ds_bus_refuse(m, SD_BUS_ERROR_INVALID_ARGS, "option %.100s: %s", name, err.text);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r;
}

static size_t size_of(const char *text)
{
	return text ? strlen(text) : 0;
}

/* 0: input and options agree; 1: refused. */
static int judge(const struct ds_daemon *daemon, sd_bus_message *m, const struct ds_bus_wish *wish)
{
	size_t size = strlen(wish->input) + size_of(wish->system) + size_of(wish->messages) + size_of(wish->tools);

	if (size > daemon->config->max_body)
		return ds_bus_refuse(m, SD_BUS_ERROR_LIMITS_EXCEEDED,
				     "the request has %zu bytes, and listen.max_body allows %llu", size,
				     (unsigned long long)daemon->config->max_body);
	if (wish->raw && (wish->system || wish->messages || wish->tools || json_object_get(wish->generate, "thinking")))
		return ds_bus_refuse(m, SD_BUS_ERROR_INVALID_ARGS,
				     "option raw: takes no system, messages, tools or thinking");
	if (!*wish->input && !wish->messages)
		return ds_bus_refuse(m, SD_BUS_ERROR_INVALID_ARGS, "the input is empty, and there are no messages");
	return 0;
}

int ds_bus_options_read(const struct ds_daemon *daemon, sd_bus_message *m, struct ds_bus_wish *wish)
{
	int r;

	wish->generate = json_pack("{s:{}}", "sampling");
	if (!wish->generate)
		return -ENOMEM;
	r = sd_bus_message_read(m, "s", &wish->input);
	if (r >= 0)
		r = take_all(daemon, m, wish);
	return r == 0 ? judge(daemon, m, wish) : r;
}

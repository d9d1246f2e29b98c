/* verb-top.c - dsctl top: what models do now, again and again: requests, tokens a second, cache and memory.
 *
 * Rates are differences of the daemon's counters between two looks. On a terminal the screen is redrawn; elsewhere
 * every look is some lines, and the first one comes when there are rates. */
#include "output.h"
#include "verb.h"

#include <string.h>
#include <time.h>

struct options {
	struct ds_number iterations, delay;
};

/* One look: the status, and when it was taken (CLOCK_MONOTONIC, seconds). */
struct look {
	json_t *status;
	double time;
};

static void deinit_look(struct look *look)
{
	json_decref(look->status);
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

static const json_t *find_model(const json_t *status, const char *name)
{
	const json_t *model;
	size_t i;

	json_array_foreach (json_object_get(status, "models"), i, model)
		if (strcmp(text(model, "name"), name) == 0)
			return model;
	return NULL;
}

/* Tokens a second of the counter @key since the look before; -1: nothing to compare with. A daemon that was started
 * again counts from 0: then all of them are new. */
static double rate(const struct look *before, const struct look *now, const json_t *model, const char *key)
{
	const json_t *old = before->status ? find_model(before->status, text(model, "name")) : NULL;
	json_int_t grown = number(json_object_get(model, "tokens"), key);

	if (!old || now->time <= before->time)
		return -1;
	if (grown >= number(json_object_get(old, "tokens"), key))
		grown -= number(json_object_get(old, "tokens"), key);
	return (double)grown / (now->time - before->time);
}

static int take(struct ds_client *client, struct look *before, struct look *now, struct ds_error *err)
{
	struct timespec t;

	deinit_look(before);
	*before = *now;
	now->status = NULL;
	clock_gettime(CLOCK_MONOTONIC, &t);
	now->time = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	return ds_http_call(client->http, "GET", "/admin/v1/status", NULL, &now->status, err);
}

static json_t *as_rate(double value)
{
	return value < 0 ? json_null() : json_real(value);
}

static int print_json(const struct look *before, const struct look *now, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *out = NULL;
	json_t *models = json_array();
	const json_t *m;
	size_t i;

	json_array_foreach (json_object_get(now->status, "models"), i, m)
		json_array_append_new(
			models,
			json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "name", text(m, "name"), "state",
				  text(m, "state"), "running", number(m, "running"), "waiting", number(m, "waiting"),
				  "prompt_tokens_per_second", as_rate(rate(before, now, m, "prompt")),
				  "completion_tokens_per_second", as_rate(rate(before, now, m, "completion")),
				  "kv_tokens_used", number(m, "kv_tokens_used"), "kv_tokens", number(m, "kv_tokens"),
				  "image_size", number(m, "image_size")));
	out = json_pack("{s:s, s:O?, s:O?, s:o}", "version", text(now->status, "version"), "requests",
			json_object_get(now->status, "requests"), "memory", json_object_get(now->status, "memory"),
			"models", models);
	return out ? ds_output_json(out, true, err) : ds_fail(err, -ENOMEM, "no memory");
}

static void print_head(const struct look *now)
{
	const json_t *requests = json_object_get(now->status, "requests");
	const json_t *memory = json_object_get(now->status, "memory");
	char held[32], limit[32], clock[16] = "";
	time_t wall = time(NULL);
	struct tm tm;

	if (localtime_r(&wall, &tm))
		strftime(clock, sizeof(clock), "%T", &tm);
	ds_output_size(held, sizeof(held), (double)number(memory, "held"));
	printf("%s  deepseekd %s: %s, %" JSON_INTEGER_FORMAT " running, %" JSON_INTEGER_FORMAT
	       " queued, memory %s of %s\n",
	       clock, text(now->status, "version"), text(now->status, "state"), number(requests, "running"),
	       number(requests, "queued"), *held ? held : "0 B",
	       ds_output_size(limit, sizeof(limit), (double)number(memory, "limit")));
}

static void add_rate(struct ds_table *t, double value)
{
	if (value < 0)
		ds_table_add(t, "-");
	else
		ds_table_add(t, "%.1f", value);
}

/* "##--------  12%" of a full cache. */
static void add_use(struct ds_table *t, json_int_t used, json_int_t all)
{
	int tenths = all > 0 ? (int)(used * 10 / all) : 0;

	if (all <= 0)
		ds_table_add(t, "-");
	else
		ds_table_add(t, "%.*s%.*s %3d%%", tenths > 10 ? 10 : tenths, "##########",
			     tenths > 10 ? 0 : 10 - tenths, "----------", (int)(used * 100 / all));
}

static int print_table(const struct look *before, const struct look *now, bool legend, struct ds_error *err)
{
	static const char *const heads[] = {"MODEL",    "STATE",     "RUNNING", "WAITING",
					    "IN TOK/S", "OUT TOK/S", "KV",      "MEMORY"};
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = DS_ARRAY_SIZE(heads)};
	const json_t *m;
	char size[32];
	size_t i;

	for (i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(&t, "%s", heads[i]);
	json_array_foreach (json_object_get(now->status, "models"), i, m) {
		ds_table_add(&t, "%s", text(m, "name"));
		ds_table_add(&t, "%s", text(m, "state"));
		ds_table_add(&t, "%" JSON_INTEGER_FORMAT, number(m, "running"));
		ds_table_add(&t, "%" JSON_INTEGER_FORMAT, number(m, "waiting"));
		add_rate(&t, rate(before, now, m, "prompt"));
		add_rate(&t, rate(before, now, m, "completion"));
		add_use(&t, number(m, "kv_tokens_used"), number(m, "kv_tokens"));
		ds_table_add(&t, "%s", ds_output_size(size, sizeof(size), (double)number(m, "image_size")));
	}
	return ds_table_print(&t, legend, err);
}

static int print(struct ds_client *client, const struct look *before, const struct look *now, bool redraw,
		 struct ds_error *err)
{
	int r;

	if (client->json)
		return print_json(before, now, err);
	if (redraw)
		fputs("\033[H\033[J", stdout);
	print_head(now);
	r = print_table(before, now, client->legend, err);
	return r < 0 ? r : fflush(stdout) == 0 ? 0 : ds_fail(err, -EIO, "cannot write to the standard output");
}

static int top(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct options *o = options;
	ds_cleanup(deinit_look) struct look before = {0}, now = {0};
	double delay = o->delay.given ? o->delay.value : 1, n = o->iterations.value;
	bool redraw = !client->json && ds_output_is_terminal(stdout);
	int r;

	if (delay < 0.01 || delay > 86400)
		return ds_fail(err, -EINVAL, "--delay: from 0.01 to 86400 seconds");
	if (!o->iterations.given)
		n = client->json ? 1 : -1;
	r = take(client, &before, &now, err);
	if (r == 0 && redraw && n != 0)
		r = print(client, &before, &now, redraw, err);
	for (double i = redraw ? 1 : 0; r == 0 && (n < 0 || i < n); i++) {
		r = ds_http_sleep(client->http, (int)(delay * 1000), err);
		if (r == -EINTR && !client->json) /* the way out */
			return 0;
		if (r == 0)
			r = take(client, &before, &now, err);
		if (r == 0)
			r = print(client, &before, &now, redraw, err);
	}
	return r;
}

#define OPTION(member) offsetof(struct options, member)
static const struct ds_flag flags[] = {
	{"iterations", 'n', DS_FLAG_COUNT, OPTION(iterations), "N", "look N times, then end (with --json once)"},
	{"delay", 'd', DS_FLAG_NUMBER, OPTION(delay), "SECONDS", "between two looks (1)"},
	{0},
};

const struct ds_verb ds_verb_top = {
	.name = "top",
	.usage = "",
	.help = "Show what models do, again and again: requests, tokens a second, cache, memory",
	.flags = flags,
	.options_size = sizeof(struct options),
	.run = top,
};

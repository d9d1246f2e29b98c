/* metrics-text.c - the numbers of the daemon as OpenMetrics 1.0 text.
 *
 * A family is a row: its name, type, unit and help, and the function that writes its samples of one model, or of the
 * daemon. The rules of the format that rows must keep: a unit is the last word of the name; samples of a counter end in
 * "_total"; an info ends in "_info"; the label of a state set is called like the family. */
#include "metrics.h"

#include <event2/buffer.h>
#include <string.h>

/* What the samples of one family are written with. */
struct target {
	struct evbuffer *out;
	const struct family *family;
	const struct ds_daemon *daemon;
	struct ds_model *model; /* NULL: of a family of the daemon */
	const char *name;       /* of the model */
	const json_t *said;     /* its object, as the status has it */
};

struct family {
	const char *name, *type, *unit, *help;
	void (*of_daemon)(const struct target *t);
	void (*of_model)(const struct target *t);
};

void ds_metrics_write_escaped(struct evbuffer *out, const char *text)
{
	for (; *text; text++)
		if (*text == '\n')
			evbuffer_add(out, "\\n", 2);
		else if (*text == '\\' || *text == '"')
			evbuffer_add_printf(out, "\\%c", *text);
		else
			evbuffer_add(out, text, 1);
}

/* NAME + @suffix + {model="...", and the start of what else is in the braces. */
static void begin(const struct target *t, const char *suffix)
{
	evbuffer_add_printf(t->out, "%s%s{model=\"", t->family->name, suffix);
	ds_metrics_write_escaped(t->out, t->name);
	evbuffer_add(t->out, "\"", 1);
}

static void number(const struct target *t, const char *suffix, uint64_t value)
{
	if (t->model) {
		begin(t, suffix);
		evbuffer_add_printf(t->out, "} %llu\n", (unsigned long long)value);
	} else {
		evbuffer_add_printf(t->out, "%s%s %llu\n", t->family->name, suffix, (unsigned long long)value);
	}
}

static double seconds(uint64_t usec)
{
	return (double)usec / 1e6;
}

/* Buckets are cumulative, and the last one is all. */
static void histogram(const struct target *t, const struct ds_histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i <= DS_N_BUCKETS; i++) {
		n += h->n[i];
		begin(t, "_bucket");
		if (i < DS_N_BUCKETS)
			evbuffer_add_printf(t->out, ",le=\"%.4g%s\"} %llu\n", seconds(ds_bucket_usec[i]),
					    ds_bucket_usec[i] % 1000000 ? "" : ".0", (unsigned long long)n);
		else
			evbuffer_add_printf(t->out, ",le=\"+Inf\"} %llu\n", (unsigned long long)n);
	}
	number(t, "_count", n);
	begin(t, "_sum");
	evbuffer_add_printf(t->out, "} %.6f\n", seconds(h->sum_usec));
}

static void build(const struct target *t)
{
	evbuffer_add_printf(t->out, "%s_info{version=\"%s\"} 1\n", t->family->name, PACKAGE_VERSION);
}

static void start_time(const struct target *t)
{
	evbuffer_add_printf(t->out, "%s %.6f\n", t->family->name, seconds((uint64_t)t->daemon->started_usec));
}

static void memory_limit(const struct target *t)
{
	number(t, "", t->daemon->config->memory);
}

static void memory_held(const struct target *t)
{
	number(t, "", ds_models_memory_held(t->daemon->models));
}

static void queue_limit(const struct target *t)
{
	number(t, "", (uint64_t)t->daemon->config->queue);
}

static void reloads(const struct target *t)
{
	evbuffer_add_printf(t->out, "%s_total{result=\"applied\"} %llu\n%s_total{result=\"refused\"} %llu\n",
			    t->family->name, (unsigned long long)t->daemon->n_reloads, t->family->name,
			    (unsigned long long)t->daemon->n_refused_reloads);
}

static void state(const struct target *t)
{
	for (enum ds_model_state s = DS_MODEL_ABSENT; s <= DS_MODEL_FAILED; s++) {
		begin(t, "");
		evbuffer_add_printf(t->out, ",%s=\"%s\"} %d\n", t->family->name, ds_model_state_names[s],
				    ds_model_get_state(t->model) == s);
	}
}

/* Generation's usual ends are there from the start, so that rates can be taken; the others when there are some. */
static void requests(const struct target *t)
{
	const struct ds_counters *c = ds_model_counters(t->model);

	for (enum ds_kind kind = 0; kind < DS_N_KINDS; kind++)
		for (enum ds_outcome o = 0; o < DS_N_OUTCOMES; o++) {
			if (c->requests[kind][o] == 0 && (kind != DS_KIND_GENERATE || o > DS_OUTCOME_LENGTH))
				continue;
			begin(t, "_total");
			evbuffer_add_printf(t->out, ",kind=\"%s\",outcome=\"%s\"} %llu\n", ds_kind_names[kind],
					    ds_outcome_names[o], (unsigned long long)c->requests[kind][o]);
		}
}

static uint64_t said(const struct target *t, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(t->said, key));
}

/* A family that is one number of a model. */
#define OF_MODEL(function, suffix, value)                                                                              \
	static void function(const struct target *t)                                                                   \
	{                                                                                                              \
		number(t, suffix, value);                                                                              \
	}

OF_MODEL(running, "", said(t, "running"))
OF_MODEL(waiting, "", said(t, "waiting"))
OF_MODEL(prompt_tokens, "_total", ds_model_counters(t->model)->prompt_tokens)
OF_MODEL(cached_tokens, "_total", ds_model_counters(t->model)->cached_tokens)
OF_MODEL(completion_tokens, "_total", ds_model_counters(t->model)->completion_tokens)
OF_MODEL(kv_capacity, "", said(t, "kv_tokens"))
OF_MODEL(kv_used, "", said(t, "kv_tokens_used"))
OF_MODEL(image, "", said(t, "image_size"))
OF_MODEL(mapped, "", said(t, "mapped_size"))
OF_MODEL(loads, "_total", said(t, "loads"))
OF_MODEL(failures, "_total", ds_model_counters(t->model)->failures)
OF_MODEL(engine_starts, "_total", said(t, "engine_starts"))
OF_MODEL(engine_deaths, "_total", ds_model_counters(t->model)->engine_deaths)

static void queue(const struct target *t)
{
	histogram(t, &ds_model_counters(t->model)->queue);
}

static void first_token(const struct target *t)
{
	histogram(t, &ds_model_counters(t->model)->first_token);
}

static void gap(const struct target *t)
{
	histogram(t, &ds_model_counters(t->model)->gap);
}

static void duration(const struct target *t)
{
	histogram(t, &ds_model_counters(t->model)->duration);
}

static const struct family families[] = {
	{"deepseekd_build", "info", NULL, "The program.", build, NULL},
	{"deepseekd_start_time_seconds", "gauge", "seconds", "When the daemon was started, since 1970.", start_time,
	 NULL},
	{"deepseekd_memory_limit_bytes", "gauge", "bytes", "limits.memory: what models may take together.",
	 memory_limit, NULL},
	{"deepseekd_memory_held_bytes", "gauge", "bytes", "What models hold of it, or are promised.", memory_held,
	 NULL},
	{"deepseekd_queue_limit", "gauge", NULL, "limits.queue: requests that may wait.", queue_limit, NULL},
	{"deepseekd_reloads", "counter", NULL, "Configurations that were read again.", reloads, NULL},
	{"deepseekd_model_state", "stateset", NULL, "The state of the model.", NULL, state},
	{"deepseekd_requests", "counter", NULL, "Requests that have ended, by kind and outcome.", NULL, requests},
	{"deepseekd_requests_running", "gauge", NULL, "Requests that an engine works on.", NULL, running},
	{"deepseekd_requests_waiting", "gauge", NULL, "Requests in the queue.", NULL, waiting},
	{"deepseekd_prompt_tokens", "counter", "tokens", "Tokens of prompts, cached ones among them.", NULL,
	 prompt_tokens},
	{"deepseekd_cached_tokens", "counter", "tokens", "Tokens of prompts that were not computed again.", NULL,
	 cached_tokens},
	{"deepseekd_completion_tokens", "counter", "tokens", "Tokens of answers.", NULL, completion_tokens},
	{"deepseekd_queue_seconds", "histogram", "seconds", "From arrival to the engine.", NULL, queue},
	{"deepseekd_time_to_first_token_seconds", "histogram", "seconds", "From arrival to the first output.", NULL,
	 first_token},
	{"deepseekd_token_gap_seconds", "histogram", "seconds", "From one output to the next of the same request.",
	 NULL, gap},
	{"deepseekd_request_duration_seconds", "histogram", "seconds", "From arrival to the end, however it ended.",
	 NULL, duration},
	{"deepseekd_kv_capacity_tokens", "gauge", "tokens", "Tokens that the KV cache has room for.", NULL,
	 kv_capacity},
	{"deepseekd_kv_used_tokens", "gauge", "tokens", "Tokens in the KV cache.", NULL, kv_used},
	{"deepseekd_image_bytes", "gauge", "bytes", "Weights in memory.", NULL, image},
	{"deepseekd_mapped_bytes", "gauge", "bytes", "Weights that stay in their files.", NULL, mapped},
	{"deepseekd_model_loads", "counter", NULL, "How often the weights were read.", NULL, loads},
	{"deepseekd_model_failures", "counter", NULL, "How often the model failed.", NULL, failures},
	{"deepseekd_engine_starts", "counter", NULL, "How often an engine was started.", NULL, engine_starts},
	{"deepseekd_engine_deaths", "counter", NULL, "How often an engine ended that was not asked to.", NULL,
	 engine_deaths},
};

static void write_models(struct target *t, const json_t *models)
{
	size_t i = 0;

	for (t->model = NULL; (t->model = ds_models_next(t->daemon->models, t->model)); i++) {
		t->name = ds_model_get_config(t->model)->name;
		t->said = json_array_get(models, i);
		t->family->of_model(t);
	}
}

/* The objects of all models, in their order. */
static json_t *describe_models(const struct ds_daemon *daemon)
{
	json_t *models = json_array();
	size_t n_running, n_waiting;

	for (struct ds_model *m = NULL; (m = ds_models_next(daemon->models, m));) {
		ds_requests_count(daemon->requests, m, &n_running, &n_waiting);
		json_array_append_new(models, ds_model_describe(m, n_waiting));
	}
	return models;
}

void ds_metrics_write(struct evbuffer *out, const struct ds_daemon *daemon)
{
	struct target t = {.out = out, .daemon = daemon};
	ds_cleanup(json_decrefp) json_t *models = describe_models(daemon);

	for (size_t i = 0; i < DS_ARRAY_SIZE(families); i++) {
		const struct family *f = t.family = &families[i];

		evbuffer_add_printf(out, "# TYPE %s %s\n", f->name, f->type);
		if (f->unit)
			evbuffer_add_printf(out, "# UNIT %s %s\n", f->name, f->unit);
		evbuffer_add_printf(out, "# HELP %s %s\n", f->name, f->help);
		if (f->of_daemon)
			f->of_daemon(&t);
		else
			write_models(&t, models);
	}
	evbuffer_add_printf(out, "# EOF\n");
}

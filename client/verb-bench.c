/* verb-bench.c - dsctl bench: how fast the engine is on this machine with a model. Runs as the caller and beside the daemon:
 * ds-loader makes an image of the files, as it does for the daemon, and ds-engine measures itself with it. */
#include "bench.h"
#include "child.h"
#include "images.h"
#include "memory.h"
#include "model.h"

#include <string.h>
#include <time.h>

#define DEFAULT_RUNS 5
#define DEFAULT_TOKENS 64
#define DEFAULT_SECONDS 8 /* so that all of it takes less than two minutes with a model of 1.5 B */
#define RESERVE (1ull << 30) /* bytes for the probe, and for everybody else */

struct options {
	const char *prefill, *decode, *batch, *kv_type, *precision, *residency;
	struct ds_number tokens, runs, threads;
};

/* A model in memory, and what the loader told of it. */
struct loaded {
	struct ds_files files;
	int image;
	json_t *told;
	double seconds;
	struct ds_plan plan;
};

static void loaded_deinit(struct loaded *l)
{
	ds_files_deinit(&l->files);
	json_decref(l->told);
	if (l->image >= 0)
		close(l->image);
}

static const char *or_else(const char *text, const char *otherwise)
{
	return text ? text : otherwise;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- what the user means ---- */

static int check_choice(const char *flag, const char *value, const char *const *choices, struct ds_error *err)
{
	char all[64];
	size_t n = 0;

	if (!value)
		return 0;
	for (size_t i = 0; choices[i]; i++)
		if (strcmp(value, choices[i]) == 0)
			return 0;
	for (size_t i = 0; choices[i]; i++)
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", choices[i]);
	return ds_fail(err, -EINVAL, "--%s: %s is not one of %s", flag, value, all);
}

static int check_number(const char *flag, const struct ds_number *n, double min, double max, struct ds_error *err)
{
	if (n->given && (n->value < min || n->value > max))
		return ds_fail(err, -EINVAL, "--%s: %.0f is not from %.0f to %.0f", flag, n->value, min, max);
	return 0;
}

static int check_options(const struct options *o, struct ds_bench_plan *plan, struct ds_error *err)
{
	static const char *const kv_types[] = {"bf16", "f16", "q8_0", "f32", NULL};
	static const char *const precisions[] = {"fast", "exact", NULL}, *const residencies[] = {"resident", "mapped", NULL};
	const struct ds_bench_lists lists = {
		.prefill = or_else(o->prefill, "32,128,512,1024,4096"),
		.decode = or_else(o->decode, "0,1k,4k,16k"),
		.batch = or_else(o->batch, "2,4,8,16"),
		.n_tokens = o->tokens.given ? (uint32_t)o->tokens.value : DEFAULT_TOKENS,
	};
	int r = check_choice("kv-type", o->kv_type, kv_types, err);

	if (r == 0)
		r = check_choice("precision", o->precision, precisions, err);
	if (r == 0)
		r = check_choice("residency", o->residency, residencies, err);
	if (r == 0)
		r = check_number("tokens", &o->tokens, 1, 65536, err);
	if (r == 0)
		r = check_number("runs", &o->runs, 1, 100, err);
	if (r == 0)
		r = check_number("threads", &o->threads, 1, 1024, err);
	return r < 0 ? r : ds_bench_plan_make(plan, &lists, err);
}

/* The path that @word means: itself, or that of a registered model. The caller frees it. */
static int find_path(struct ds_client *client, const char *word, char **path, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *status = NULL;
	const json_t *model;
	size_t i;
	int r;

	if (ds_model_is_path(word)) {
		*path = strdup(word);
		return *path ? 0 : ds_fail(err, -ENOMEM, "no memory");
	}
	r = ds_http_call(client->http, "GET", "/admin/v1/status", NULL, &status, err);
	if (r == -ECONNREFUSED)
		return ds_fail(err, -ENOENT, "%s: no such file, and no daemon runs that has a model of this name", word);
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(status, "models"), i, model) {
		const char *its_path = json_string_value(json_object_get(model, "path"));

		if (its_path && ds_model_is_called(model, word)) {
			*path = strdup(its_path);
			return *path ? 0 : ds_fail(err, -ENOMEM, "no memory");
		}
	}
	return ds_fail(err, -ENOENT, "%s: no such file, and no such model", word);
}

/* ---- loading ---- */

static json_t *load_json(const struct options *o, const struct ds_bench_plan *plan)
{
	return json_pack("{s:s, s:s, s:s, s:I}", "kv_type", or_else(o->kv_type, "bf16"), "precision",
			 or_else(o->precision, "fast"), "residency", or_else(o->residency, "resident"), "parallel",
			 (json_int_t)ds_bench_plan_sequences(plan));
}

/* Leave out of @plan what does not fit beside the model. */
static int limit(const struct ds_plan *p, struct ds_bench_plan *plan, json_t *left_out, struct ds_error *err)
{
	double available = ds_memory_available(), need = (double)p->image_size + (double)p->scratch_size + RESERVE;
	char needed[32], there[32];

	if (available > 0 && need > available)
		return ds_fail(err, -EREMOTEIO, "it takes %s, and %s of memory are available; --residency mapped needs less",
			       ds_output_size(needed, sizeof(needed), need),
			       ds_output_size(there, sizeof(there), available));
	ds_bench_plan_limit(plan, p->context, (double)p->kv_size_per_token,
			    available > 0 ? 0.9 * (available - need) : 1e30, left_out);
	return plan->n > 0 ? 0 : ds_fail(err, -EREMOTEIO, "no measurement fits into memory and into the context of the model");
}

static void draw(void *self, uint64_t done, uint64_t total)
{
	fprintf(stderr, "\r%s %3.0f%%\033[K", (const char *)self, total ? 100.0 * (double)done / (double)total : 100);
	fflush(stderr);
}

static int read_plan(struct ds_child *loader, struct loaded *l, struct ds_error *err)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	int r = ds_child_await(loader, DS_MSG_PLAN, false, NULL, NULL, &m, err);

	if (r < 0)
		return r;
	if (m.size != sizeof(l->plan))
		return ds_fail(err, -EPROTO, "ds-loader: a plan of %u bytes", m.size);
	memcpy(&l->plan, m.data, sizeof(l->plan));
	return 0;
}

/* The loader fills an image of the size it planned; *@fd may be written until it is sealed. */
static int fill_image(struct ds_child *loader, struct loaded *l, int *fd, struct ds_error *err)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	bool terminal = ds_output_has_colour(stderr);
	int r = *fd = ds_images_create("bench", l->plan.image_size, err);

	if (r >= 0)
		r = ds_child_send(loader, DS_MSG_GO, NULL, fd, 1, err);
	if (r == 0 || r == -EPIPE)
		r = ds_child_await(loader, DS_MSG_LOADED, true, terminal ? draw : NULL, "loading", &m, err);
	if (r < 0)
		return r;
	l->told = json_loadb((const char *)m.data, m.size, 0, NULL);
	return l->told ? 0 : ds_fail(err, -EPROTO, "ds-loader: LOADED is not JSON");
}

static int load(struct loaded *l, const struct options *o, struct ds_bench_plan *plan, json_t *left_out,
		struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *json = load_json(o, plan);
	ds_cleanup(ds_closep) int fd = -1;
	struct ds_child loader = {0};
	double begin = now();
	int r = ds_child_start(&loader, "ds-loader", err);

	if (r < 0)
		return r;
	r = ds_child_send_files(&loader, &l->files, err);
	if (r == 0)
		r = ds_child_send(&loader, DS_MSG_LOAD, json, NULL, 0, err);
	if (r == 0 || r == -EPIPE)
		r = read_plan(&loader, l, err);
	if (r == 0)
		r = limit(&l->plan, plan, left_out, err);
	if (r == 0)
		r = fill_image(&loader, l, &fd, err);
	ds_child_deinit(&loader); /* nobody may write into the image any more */
	if (r < 0)
		return r;
	l->seconds = now() - begin;
	l->image = ds_images_seal(fd, err);
	return l->image < 0 ? l->image : 0;
}

/* ---- running ---- */

static json_t *bench_json(const struct options *o, const struct ds_bench_plan *plan)
{
	bool patient = o->runs.given; /* who says how many runs gets them all */
	json_t *json = load_json(o, plan);

	json_object_set_new(json, "context", json_integer(ds_bench_plan_tokens(plan)));
	json_object_set_new(json, "sampling", json_pack("{s:f, s:f}", "temperature", 0.6, "top_p", 0.95));
	if (o->threads.given)
		json_object_set_new(json, "plugins", json_pack("{s:{s:I}}", "backend-cpu", "threads",
							       (json_int_t)o->threads.value));
	json_object_set_new(json, "bench",
			    json_pack("{s:o, s:I, s:f}", "cases", ds_bench_plan_json(plan), "runs",
				      (json_int_t)(patient ? o->runs.value : DEFAULT_RUNS), "seconds",
				      patient ? 0.0 : DEFAULT_SECONDS));
	return json;
}

/* The image, and those files that it says the model stays in. The array is to be freed. */
static int *descriptors(const struct loaded *l, unsigned *n)
{
	const json_t *names = json_object_get(l->told, "files"), *name;
	int *fds = calloc(json_array_size(names) + 1, sizeof(*fds));
	size_t i;

	if (!fds)
		return NULL;
	fds[0] = l->image;
	*n = 1;
	json_array_foreach (names, i, name)
		for (size_t j = 0; j < l->files.n; j++)
			if (strcmp(l->files.names[j], or_else(json_string_value(name), "")) == 0)
				fds[(*n)++] = l->files.fds[j];
	return fds;
}

static int measure(const struct loaded *l, const struct options *o, const struct ds_bench_plan *plan, json_t **answer,
		   struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *json = bench_json(o, plan);
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	ds_cleanup(ds_child_deinit) struct ds_child engine = {0};
	bool terminal = ds_output_has_colour(stderr);
	unsigned n_fds = 0;
	ds_cleanup(ds_freep) int *fds = descriptors(l, &n_fds);
	int r;

	if (!fds || !json)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_child_start(&engine, "ds-engine", err);
	if (r < 0)
		return r;
	r = ds_child_send(&engine, DS_MSG_BENCH, json, fds, n_fds, err);
	if (r == 0 || r == -EPIPE)
		r = ds_child_await(&engine, DS_MSG_ANSWER, true, terminal ? draw : NULL, "measuring", &m, err);
	if (terminal)
		fputs("\r\033[K", stderr);
	if (r < 0)
		return r;
	*answer = json_loadb((const char *)m.data, m.size, 0, NULL);
	return *answer ? 0 : ds_fail(err, -EPROTO, "ds-engine: its answer is not JSON");
}

/* ---- what is printed ---- */

static void add_facts(json_t *report, const struct loaded *l, const struct options *o, const char *path,
		      const json_t *answer, json_t *left_out)
{
	static const char *const keys[] = {"backend", "architecture", "dtype", "sampling"};

	json_object_set_new(report, "path", json_string(path));
	json_object_set_new(report, "precision", json_string(or_else(o->precision, "fast")));
	json_object_set_new(report, "kv_type", json_string(or_else(o->kv_type, "bf16")));
	json_object_set_new(report, "residency", json_string(or_else(o->residency, "resident")));
	json_object_set_new(report, "load_seconds", json_real(l->seconds));
	json_object_set_new(report, "image_size", json_integer((json_int_t)l->plan.image_size));
	for (size_t i = 0; i < DS_ARRAY_SIZE(keys); i++)
		json_object_set(report, keys[i], json_object_get(answer, keys[i]));
	json_object_set(report, "left_out", left_out);
}

static const char *text(const json_t *object, const char *key)
{
	return or_else(json_string_value(json_object_get(object, key)), "");
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void print_facts(const json_t *report)
{
	const json_t *machine = json_object_get(report, "machine"), *share = json_object_get(report, "sampling_share"), *one;
	char size[32];
	size_t i;

	printf("model     %s: %s, mostly %s\n", text(report, "path"), text(report, "architecture"), text(report, "dtype"));
	printf("engine    backend %s, precision %s, cache %s, %s\n", text(report, "backend"), text(report, "precision"),
	       text(report, "kv_type"), text(report, "residency"));
	printf("loading   %s in %.2f s\n", ds_output_size(size, sizeof(size), number(report, "image_size")),
	       number(report, "load_seconds"));
	if (number(machine, "bytes_per_second") > 0)
		printf("machine   reads %.1f GB/s, computes %.1f Gop/s (%s): the best of the probes and of all runs\n",
		       number(machine, "bytes_per_second") * 1e-9, number(machine, "operations_per_second") * 1e-9,
		       text(machine, "unit"));
	printf("sampling  %.3f ms a token", number(report, "sampling") * 1e3);
	if (json_is_number(share))
		printf(", %.1f%% of the step before", 100 * json_number_value(share));
	puts(", in no other time\n");
	json_array_foreach (json_object_get(report, "left_out"), i, one)
		fprintf(stderr, "%s is left out: %s\n", text(one, "name"), text(one, "reason"));
}

static int print(const json_t *report, bool legend, struct ds_error *err)
{
	ds_cleanup(ds_table_deinit) struct ds_table t = {0};

	if (legend)
		print_facts(report);
	ds_bench_table(&t, report);
	return ds_table_print(&t, legend, err);
}

static int bench(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *answer = NULL, *report = NULL, *left_out = json_array();
	ds_cleanup(loaded_deinit) struct loaded l = {.image = -1};
	ds_cleanup(ds_freep) char *path = NULL;
	const struct options *o = options;
	struct ds_bench_plan plan = {0};
	int r = check_options(o, &plan, err);

	if (r == 0)
		r = find_path(client, args[0], &path, err);
	if (r == 0)
		r = ds_files_open(&l.files, path, err);
	if (r == 0)
		r = load(&l, o, &plan, left_out, err);
	if (r == 0)
		r = measure(&l, o, &plan, &answer, err);
	if (r == 0)
		r = ds_bench_report(&plan, answer, &report, err);
	if (r < 0)
		return r;
	add_facts(report, &l, o, path, answer, left_out);
	return client->json ? ds_output_json(report, false, err) : print(report, client->legend, err);
}

static const struct ds_flag flags[] = {
	{"prefill", 'p', DS_FLAG_TEXT, offsetof(struct options, prefill), "LIST", "lengths of texts that are read"},
	{"decode", 'd', DS_FLAG_TEXT, offsetof(struct options, decode), "LIST", "depths at which a text goes on"},
	{"batch", 'b', DS_FLAG_TEXT, offsetof(struct options, batch), "LIST", "numbers of texts that go on together"},
	{"tokens", 'n', DS_FLAG_COUNT, offsetof(struct options, tokens), "N", "tokens that a text goes on for (64)"},
	{"runs", 'r', DS_FLAG_COUNT, offsetof(struct options, runs), "N", "runs of each (5, or fewer of what takes long)"},
	{"threads", 't', DS_FLAG_COUNT, offsetof(struct options, threads), "N", "threads that compute"},
	{"kv-type", 0, DS_FLAG_TEXT, offsetof(struct options, kv_type), "TYPE", "of the cache: bf16, f16, q8_0, f32"},
	{"precision", 0, DS_FLAG_TEXT, offsetof(struct options, precision), "P", "fast or exact"},
	{"residency", 0, DS_FLAG_TEXT, offsetof(struct options, residency), "R", "resident or mapped"},
	{0},
};

const struct ds_verb ds_verb_bench = {
	.name = "bench",
	.usage = "PATH|NAME",
	.help = "Measure how fast a model is on this machine",
	.flags = flags,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 1,
	.run = bench,
};

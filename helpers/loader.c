/* loader.c - the messages of a load, and what each of them does. No file is opened: descriptors come. */
#include "loader.h"
#include "capabilities.h"

#include <deepseekd/tokenizer.h>

#include "builder.h"
#include "describe.h"
#include "fill.h"
#include "kv-type.h"
#include "message.h"
#include "requests.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FILES 4096
#define STEP_ROWS 512 /* rows of a step that the engine's memory is estimated for */

enum phase {
	PHASE_FILES = 1u << 0, /* collecting files */
	PHASE_PLAN = 1u << 1,  /* the plan is sent, the memory is awaited */
	PHASE_DONE = 1u << 2,
};

struct loader {
	int socket;
	const struct ds_plugins *plugins;
	enum phase phase;
	struct ds_file *files; /* [n_files]; names and descriptors are ours */
	size_t n_files;
	struct ds_model_builder *builder;
	const struct ds_backend_ops *backend;
	const char *backend_name;
};

static void loader_deinit(struct loader *l)
{
	ds_model_builder_free(l->builder);
	for (size_t i = 0; i < l->n_files; i++) {
		free((void *)l->files[i].name);
		close(l->files[i].fd);
	}
	free(l->files);
}

/* @flags: JSON_ALLOW_NUL where texts are bytes with a size; everywhere else they are C strings, and must not be cut. */
static int parse(const struct ds_message *m, const char *what, size_t flags, json_t **out, struct ds_error *err)
{
	json_error_t error;

	*out = json_loadb((const char *)m->data, m->size, JSON_REJECT_DUPLICATES | flags, &error);
	if (!json_is_object(*out))
		return ds_fail(err, -EPROTO, "%s is not a JSON object: %s", what, *out ? "another value" : error.text);
	return 0;
}

/* The file @fd, which comes under @name. Takes the descriptor on success. */
static int add_file(struct loader *l, const char *name, int *fd, struct ds_error *err)
{
	struct ds_file *file = &l->files[l->n_files];
	struct stat st;

	if (!name || !*name || strchr(name, '/'))
		return ds_fail(err, -EPROTO, "FILES: \"%.64s\" is not a base name", name ? name : "");
	for (size_t i = 0; i < l->n_files; i++)
		if (strcmp(l->files[i].name, name) == 0)
			return ds_fail(err, -EPROTO, "FILES: %.64s comes twice", name);
	if (fstat(*fd, &st) < 0)
		return ds_fail(err, -errno, "%.128s: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ds_fail(err, -EINVAL, "%.128s is not a regular file", name);
	file->name = strdup(name);
	if (!file->name)
		return ds_fail(err, -ENOMEM, "no memory for the name of a file");
	file->size = (uint64_t)st.st_size;
	file->fd = ds_steal_fd(fd);
	l->n_files++;
	return 0;
}

static int on_files(struct loader *l, struct ds_message *m, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *json = NULL;
	struct ds_file *files;
	const json_t *names;
	int r = parse(m, "FILES", 0, &json, err);

	if (r < 0)
		return r;
	names = json_object_get(json, "names");
	if (!json_is_array(names) || json_array_size(names) != m->n_fds)
		return ds_fail(err, -EPROTO, "FILES has %zu names and %u descriptors", json_array_size(names),
			       m->n_fds);
	if (l->n_files + m->n_fds > MAX_FILES)
		return ds_fail(err, -E2BIG, "a model of more than %d files", MAX_FILES);
	files = reallocarray(l->files, l->n_files + m->n_fds + 1, sizeof(*files));
	if (!files)
		return ds_fail(err, -ENOMEM, "no memory for %u files", m->n_fds);
	l->files = files;
	for (unsigned i = 0; r == 0 && i < m->n_fds; i++)
		r = add_file(l, json_string_value(json_array_get(names, i)), &m->fds[i], err);
	return r;
}

/* The text under @key of LOAD; *@out stays as it is if there is none. */
static int load_text(const json_t *json, const char *key, const char **out, struct ds_error *err)
{
	const json_t *value = json_object_get(json, key);

	if (!value)
		return 0;
	if (!json_is_string(value))
		return ds_fail(err, -EPROTO, "LOAD: \"%s\" is not a string", key);
	*out = json_string_value(value);
	return 0;
}

static int choose_backend(struct loader *l, const char *name, struct ds_error *err)
{
	const struct ds_plugin *plugin;
	size_t i = 0;

	if (strcmp(name, "auto") == 0) {
		plugin = ds_plugins_next(l->plugins, DS_PLUGIN_BACKEND, &i);
		name = plugin ? plugin->entries[0].name : name;
	}
	l->backend_name = name;
	l->backend = ds_plugins_find(l->plugins, DS_PLUGIN_BACKEND, name, &plugin, err);
	if (!l->backend)
		return -ENOENT;
	for (const struct ds_entry *e = plugin->entries; e->name; e++)
		if (e->ops == l->backend)
			l->backend_name = e->name; /* outlives the message */
	return 0;
}

/* The dialect @wish, which has to be there, or with "auto" the one that is recognized. */
static int choose_dialect(struct loader *l, const char *wish, struct ds_error *err)
{
	const struct ds_habits habits = ds_model_builder_habits(l->builder);

	if (strcmp(wish, "auto") == 0)
		wish = ds_recognize_dialect(l->plugins, &habits);
	else if (!ds_plugins_find(l->plugins, DS_PLUGIN_DIALECT, wish, NULL, err))
		return -ENOENT;
	return ds_image_writer_dialect(ds_model_builder_image(l->builder), wish, err);
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* Bytes an engine takes besides weights and KV: the activations of a step of STEP_ROWS rows, and a row of logits for
 * each of @parallel sequences, all F32. */
uint64_t ds_loader_scratch_size(const struct ds_hparams *h, uint64_t parallel)
{
	uint64_t head = (uint64_t)h->qk_nope + h->qk_rope + 2ull * h->kv_lora + h->v_head + 2ull * h->head_dim;
	uint64_t ff = h->ff, experts = multiply(h->n_experts_used, add(2 * (uint64_t)h->moe_ff, h->hidden));
	uint64_t row = add(4 * (uint64_t)h->hidden, multiply(h->n_heads, head));

	row = add(row, add(2 * ff, add(experts, multiply(h->n_shared, 2 * (uint64_t)h->moe_ff))));
	row = add(row, (uint64_t)h->q_lora + h->kv_lora + h->qk_rope + h->n_experts);
	row = add(row, multiply(2 * (uint64_t)h->n_kv_heads, h->head_dim));
	return multiply(sizeof(float), add(multiply(row, STEP_ROWS), multiply(h->vocab, parallel)));
}

/* Bytes of the cache a token takes in all layers, the engine's block of multi-token prediction being one of them: a row
 * of MLA's latent, or keys and values of each key head. Exact precision keeps F32 whatever @kv_type says. */
uint64_t ds_loader_kv_size(const struct ds_hparams *h, enum ds_precision precision, const char *kv_type)
{
	const struct ds_dtype_info *info = ds_dtype_info(ds_kv_dtype(precision, kv_type));
	uint64_t n_layers = (uint64_t)h->n_layers + (h->n_mtp > 0);
	uint64_t width = h->n_kv_heads > 0 ? multiply(2 * (uint64_t)h->n_kv_heads, h->head_dim)
					   : (uint64_t)h->kv_lora + h->qk_rope;

	return multiply(multiply(add(width, info->block - 1) / info->block, n_layers), info->size);
}

static int send(struct loader *l, uint16_t type, const void *data, size_t size, struct ds_error *err)
{
	int r = ds_message_send(l->socket, type, 0, data, size, NULL, 0);

	if (r == -EMSGSIZE)
		return ds_fail(err, -EFBIG, "the answer of %zu bytes is longer than what can be sent at once (%u MiB)", size,
			       DS_MESSAGE_MAX >> 20);
	return r < 0 ? ds_fail(err, r, "message %u cannot be sent: %s", type, strerror(-r)) : 0;
}

static int send_plan(struct loader *l, const json_t *load, enum ds_precision precision, const char *kv_type,
		     struct ds_error *err)
{
	const struct ds_image_writer *image = ds_model_builder_image(l->builder);
	const struct ds_hparams *h = ds_image_writer_get_hparams(image);
	json_int_t parallel = json_integer_value(json_object_get(load, "parallel"));
	const struct ds_dtype_info *info = ds_dtype_info(ds_kv_dtype(precision, kv_type));
	struct ds_plan plan;

	if (!ds_kv_suits(h, ds_kv_dtype(precision, kv_type)))
		return ds_fail(err, -ENOTSUP,
			       "kv_type %s has blocks of %u, which the heads of this model do not fill; bf16 is for all", kv_type,
			       info->block);
	plan = (struct ds_plan){
		.weights_size = ds_image_writer_weights_size(image),
		.mapped_size = ds_image_writer_mapped_size(image),
		.kv_size_per_token = ds_loader_kv_size(h, precision, kv_type),
		.scratch_size = ds_loader_scratch_size(h, parallel > 0 ? (uint64_t)parallel : 1),
		.image_size = ds_image_writer_size(image),
		.context = h->context,
	};
	return send(l, DS_MSG_PLAN, &plan, sizeof(plan), err);
}

/* What LOAD asks for, beyond the numbers that send_plan() takes. Borrowed from the message. */
struct wishes {
	const char *backend, *dialect, *kv_type;
	enum ds_precision precision;
	bool is_mapped;
};

static int read_wishes(const json_t *json, struct wishes *w, struct ds_error *err)
{
	const char *precision = "fast", *residency = "resident";
	int r = load_text(json, "backend", &w->backend, err);

	if (r == 0)
		r = load_text(json, "dialect", &w->dialect, err);
	if (r == 0)
		r = load_text(json, "kv_type", &w->kv_type, err);
	if (r == 0)
		r = load_text(json, "precision", &precision, err);
	if (r == 0)
		r = load_text(json, "residency", &residency, err);
	if (r < 0)
		return r;
	if (!ds_kv_dtype(DS_PRECISION_FAST, w->kv_type))
		return ds_fail(err, -EPROTO, "LOAD: kv_type \"%.32s\" is not f32, f16, bf16 or q8_0", w->kv_type);
	w->precision = strcmp(precision, "exact") == 0 ? DS_PRECISION_EXACT : DS_PRECISION_FAST;
	if (w->precision != DS_PRECISION_EXACT && strcmp(precision, "fast") != 0)
		return ds_fail(err, -EPROTO, "LOAD: precision \"%.32s\" is not fast or exact", precision);
	w->is_mapped = strcmp(residency, "mapped") == 0;
	if (!w->is_mapped && strcmp(residency, "resident") != 0)
		return ds_fail(err, -EPROTO, "LOAD: residency \"%.32s\" is not resident or mapped", residency);
	return 0;
}

/* What its tokenizer cannot work with is refused before a weight is read, not by the engine when all are. A tokenizer that
 * is not here is the engine's concern. */
static int vet_vocabulary(const void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	const struct ds_tokenizer_ops *ops = ds_plugins_find(self, DS_PLUGIN_TOKENIZER, v->tokenizer, NULL, NULL);
	struct ds_error reason = {""};
	void *tokenizer = NULL;
	int r = ops ? ops->open(&tokenizer, ds_plugins_host(), v, &reason) : 0;

	if (r < 0)
		return ds_fail(err, r, "the model's tokenizer: %.220s", reason.text);
	if (ops)
		ops->close(tokenizer);
	return 0;
}

static int on_load(struct loader *l, struct ds_message *m, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *json = NULL;
	struct wishes w = {"auto", "auto", "bf16", DS_PRECISION_FAST, false};
	int r = parse(m, "LOAD", 0, &json, err);

	if (r == 0)
		r = read_wishes(json, &w, err);
	if (r == 0)
		r = choose_backend(l, w.backend, err);
	if (r == 0)
		r = ds_model_builder_new(&l->builder, l->files, l->n_files, err);
	if (r == 0)
		ds_model_builder_vet(l->builder, vet_vocabulary, l->plugins);
	if (r == 0)
		r = ds_describe(l->plugins, l->files, l->n_files, ds_model_builder_calls(l->builder), err);
	if (r == 0)
		r = choose_dialect(l, w.dialect, err);
	if (r == 0 && w.is_mapped)
		ds_model_builder_map(l->builder);
	if (r == 0)
		r = ds_model_builder_plan(l->builder, l->backend, w.precision, err);
	if (r == 0)
		r = send_plan(l, json, w.precision, w.kv_type, err);
	if (r == 0)
		l->phase = PHASE_PLAN;
	return r;
}

static int send_progress(void *self, uint64_t done, uint64_t total, struct ds_error *err)
{
	const struct ds_progress progress = {done, total};

	return send(self, DS_MSG_PROGRESS, &progress, sizeof(progress), err);
}

/* The names of the files that the model stays in, in the order in which an engine wants their descriptors. */
static json_t *mapped_files(const struct ds_image_writer *image)
{
	json_t *names = json_array();
	uint32_t n;
	const struct ds_image_file *files = ds_image_writer_get_files(image, &n);

	for (uint32_t i = 0; names && i < n; i++)
		json_array_append_new(names, json_string(files[i].name));
	return names;
}

static int send_loaded(struct loader *l, struct ds_error *err)
{
	const struct ds_image_writer *image = ds_model_builder_image(l->builder);
	const struct ds_hparams *h = ds_image_writer_get_hparams(image);
	const char *dialect = ds_image_writer_get_dialect(image);
	bool has_words = ds_image_writer_has_vocabulary(image);
	ds_cleanup(json_decrefp) json_t *json = json_pack(
		"{s:s, s:s, s:b, s:o, s:I, s:I, s:I, s:s, s:o}", "architecture", h->architecture, "dialect", dialect,
		"tokenizer", has_words, "capabilities", ds_capabilities(l->plugins, dialect, has_words), "parameters",
		(json_int_t)ds_model_builder_parameters(l->builder), "context", (json_int_t)h->context, "vocab",
		(json_int_t)h->vocab, "backend", l->backend_name, "files", mapped_files(image));
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	if (!text)
		return ds_fail(err, -EINVAL, "a name in the model is not UTF-8");
	return send(l, DS_MSG_LOADED, text, strlen(text), err);
}

static int on_go(struct loader *l, struct ds_message *m, struct ds_error *err)
{
	uint64_t size = ds_image_writer_size(ds_model_builder_image(l->builder));
	struct stat st;
	int r;

	if (m->n_fds != 1 || fstat(m->fds[0], &st) < 0 || (uint64_t)st.st_size != size)
		return ds_fail(err, -EPROTO, "GO comes without memory of %llu bytes", (unsigned long long)size);
	for (size_t i = 0; i < l->n_files; i++)
		posix_fadvise(l->files[i].fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	r = ds_fill(l->builder, l->backend, m->fds[0], send_progress, l, err);
	if (r == 0)
		r = send_loaded(l, err);
	if (r == 0)
		l->phase = PHASE_DONE;
	return r;
}

static const struct {
	uint16_t type;
	unsigned phases;
	int (*function)(struct loader *l, struct ds_message *m, struct ds_error *err);
} messages[] = {
	{DS_MSG_FILES, PHASE_FILES, on_files},
	{DS_MSG_LOAD, PHASE_FILES, on_load},
	{DS_MSG_GO, PHASE_PLAN, on_go},
};

/* What dsctl asks: one request, one answer. */
static int on_request(struct loader *l, const struct ds_request_kind *kind, struct ds_message *m, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *json = NULL, *answer = NULL;
	ds_cleanup(ds_freep) char *text = NULL;
	struct ds_request request = {
		.plugins = l->plugins,
		.files = l->files,
		.n_files = l->n_files,
		.message = m,
		.progress = send_progress,
		.self = l,
	};
	int r = m->size > 0 ? parse(m, "the request", kind->json_flags, &json, err) : 0;

	request.json = json;
	if (r == 0)
		r = kind->function(&request, &answer, err);
	if (r < 0)
		return r;
	text = json_dumps(answer, JSON_COMPACT);
	if (!text)
		return ds_fail(err, -EINVAL, "a name in the model is not UTF-8");
	r = send(l, DS_MSG_ANSWER, text, strlen(text), err);
	if (r == 0)
		l->phase = PHASE_DONE;
	return r;
}

static int dispatch(struct loader *l, struct ds_message *m, struct ds_error *err)
{
	const struct ds_request_kind *request = ds_request_find(m->type);

	for (size_t i = 0; i < DS_ARRAY_SIZE(messages); i++)
		if (messages[i].type == m->type && messages[i].phases & l->phase)
			return messages[i].function(l, m, err);
	if (request && l->phase == PHASE_FILES)
		return on_request(l, request, m, err);
	return ds_fail(err, -EPROTO, "message %u is not expected now", m->type);
}

/* What a program may do with a failure; the sentence is for people. */
static const char *failure_code(int r)
{
	switch (r) {
	case -EBADR:
		return "invalid_request";
	case -EINVAL:
	case -E2BIG:
	case -EFBIG:
		return "invalid_model";
	case -ENOTSUP:
		return "unsupported_model";
	case -EIO:
		return "unreadable_model";
	case -ENOENT:
		return "no_plugin";
	case -ENOMEM:
	case -ENOSPC:
		return "out_of_memory";
	default:
		return "internal";
	}
}

static void send_failed(struct loader *l, int r, const char *message)
{
	ds_cleanup(json_decrefp) json_t *json = json_pack("{s:s, s:s}", "code", failure_code(r), "message", message);
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	static const char fallback[] =
		"{\"code\": \"internal\", \"message\": \"a failure that cannot be put into words\"}";

	if (!text)
		send(l, DS_MSG_FAILED, fallback, strlen(fallback), NULL);
	else
		send(l, DS_MSG_FAILED, text, strlen(text), NULL);
}

int ds_loader_serve(int socket, const struct ds_plugins *plugins, struct ds_error *err)
{
	ds_cleanup(loader_deinit) struct loader l = {.socket = socket, .plugins = plugins, .phase = PHASE_FILES};
	int r = 0;

	while (r == 0 && l.phase != PHASE_DONE) {
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};

		r = ds_message_receive(socket, &m, err);
		if (r == 0)
			r = dispatch(&l, &m, err);
	}
	if (r < 0 && r != -EPIPE)
		send_failed(&l, r, err->text);
	return r;
}

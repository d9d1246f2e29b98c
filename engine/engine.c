/* engine.c - from the MAP message to a model that can compute.
 *
 * The KV cache is sized for @parallel texts of @context tokens; memory that is reserved and never used is never touched. */
#include "engine.h"
#include "chain.h"
#include "kv-type.h"
#include "kv.h"
#include "message.h"
#include "settings.h"

#include <signal.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

struct map_options {
	const char *backend, *dialect;
	json_int_t context, parallel;
	enum ds_precision precision;
	enum ds_dtype kv_dtype;
};

static int read_choice(const json_t *map, const char *key, const char *const *names, int otherwise, struct ds_error *err)
{
	const json_t *value = json_object_get(map, key);

	if (!value)
		return otherwise;
	for (int i = 0; names[i]; i++)
		if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0)
			return i;
	return ds_fail(err, -EINVAL, "MAP: %s is not one that this engine knows", key);
}

static int read_number(const json_t *map, const char *key, json_int_t max, json_int_t *out, struct ds_error *err)
{
	const json_t *value = json_object_get(map, key);

	if (value && (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > max))
		return ds_fail(err, -EINVAL, "MAP: %s is not a number from 0 to %lld", key, (long long)max);
	*out = json_integer_value(value);
	return 0;
}

static const char *read_name(const json_t *map, const char *key)
{
	const char *name = json_string_value(json_object_get(map, key));

	return name ? name : "auto";
}

static int read_options(const json_t *map, struct map_options *o, struct ds_error *err)
{
	static const char *const precisions[] = {"fast", "exact", NULL};
	const json_t *kv_type = json_object_get(map, "kv_type");
	int precision = read_choice(map, "precision", precisions, 0, err), r;

	if (precision < 0)
		return precision;
	o->precision = precision ? DS_PRECISION_EXACT : DS_PRECISION_FAST;
	o->kv_dtype = ds_kv_dtype(o->precision, kv_type ? json_string_value(kv_type) : "bf16");
	if (!o->kv_dtype)
		return ds_fail(err, -EINVAL, "MAP: kv_type is not one that this engine knows");
	o->backend = read_name(map, "backend");
	o->dialect = read_name(map, "dialect");
	r = read_number(map, "context", UINT32_MAX, &o->context, err);
	if (r == 0)
		r = read_number(map, "parallel", DS_MAX_PARALLEL, &o->parallel, err);
	return r;
}

/* The backend that packed the image. *@from: its plugin. */
static const struct ds_backend_ops *find_backend(const struct ds_engine *engine, const char *name,
						 const struct ds_plugin **from, struct ds_error *err)
{
	const char *packed_by = ds_image_backend(engine->image);
	const struct ds_plugin *plugin;

	for (size_t i = 0; (plugin = ds_plugins_next(engine->plugins, DS_PLUGIN_BACKEND, &i));)
		for (const struct ds_entry *entry = plugin->entries; entry->name; entry++) {
			const struct ds_backend_ops *ops = entry->ops;

			if ((strcmp(name, "auto") == 0 || strcmp(name, entry->name) == 0) &&
			    strcmp(ops->identity(), packed_by) == 0) {
				*from = plugin;
				return ops;
			}
		}
	ds_fail(err, -ENOTSUP, "the image was packed for backend %s, which is not among the plugins as %s", packed_by, name);
	return NULL;
}

static int open_tokenizer(struct ds_engine *engine, struct ds_error *err)
{
	int r;

	engine->vocabulary = ds_image_vocabulary(engine->image);
	if (!engine->vocabulary)
		return 0;
	engine->tokenizer_ops = ds_plugins_find(engine->plugins, DS_PLUGIN_TOKENIZER, engine->vocabulary->tokenizer, NULL,
						err);
	if (!engine->tokenizer_ops)
		return -ENOTSUP;
	r = engine->tokenizer_ops->open(&engine->tokenizer, ds_plugins_host(), engine->vocabulary, err);
	if (r < 0)
		engine->tokenizer_ops = NULL;
	return r;
}

static int find_dialect(struct ds_engine *engine, const char *name, struct ds_error *err)
{
	if (strcmp(name, "auto") == 0)
		name = ds_image_dialect(engine->image);
	if (!engine->vocabulary || name[0] == '\0')
		return 0;
	engine->dialect = ds_plugins_find(engine->plugins, DS_PLUGIN_DIALECT, name, NULL, err);
	snprintf(engine->dialect_name, sizeof(engine->dialect_name), "%s", name);
	return engine->dialect ? 0 : -ENOTSUP;
}

/* Pages of KV cache for @parallel texts of @context tokens. That there is memory for them is the broker's concern. */
static int count_pages(struct ds_engine *engine, struct ds_error *err)
{
	uint64_t n = (uint64_t)ds_kv_pages(engine->context) * engine->parallel;

	if (n == 0 || n > UINT32_MAX / DS_KV_PAGE_TOKENS)
		return ds_fail(err, -E2BIG, "a KV cache of %u x %u tokens, at most %u", engine->parallel,
			       engine->context, UINT32_MAX);
	engine->n_pages = (uint32_t)n;
	return 0;
}

static int open_model(struct ds_engine *engine, const struct map_options *o, struct ds_error *err)
{
	struct ds_arch_setup setup = {
		.image = engine->image,
		.ops = engine->backend_ops,
		.backend = engine->backend,
		.precision = o->precision,
		.kv_dtype = o->kv_dtype,
		.page_tokens = DS_KV_PAGE_TOKENS,
		.max_rows = DS_STEP_PROMPT_ROWS + engine->parallel,
		.max_logits = DS_STEP_LOGITS,
	};
	int r = count_pages(engine, err);

	if (r < 0)
		return r;
	setup.n_pages = engine->n_pages;
	r = engine->arch->open(&engine->model, &setup, err);
	if (r < 0)
		engine->model = NULL;
	return r;
}

static int open_backend(struct ds_engine *engine, const struct map_options *o, struct ds_error *err)
{
	struct ds_settings settings = {0};
	const struct ds_plugin *plugin;
	struct ds_failure failure;
	const void *data;
	uint64_t size;
	int r;

	engine->backend_ops = find_backend(engine, o->backend, &plugin, err);
	if (!engine->backend_ops)
		return -ENOTSUP;
	if (ds_settings_add(&settings, plugin, json_object_get(engine->plugin_options, plugin->name), &failure) < 0)
		return ds_fail(err, -EINVAL, "plugin %s: %.200s", plugin->name, failure.error.text);
	r = engine->backend_ops->open(&engine->backend, ds_plugins_host(), settings.list, err);
	if (r < 0) {
		engine->backend = NULL;
		return r;
	}
	data = ds_image_data(engine->image, &size);
	r = engine->backend_ops->map(engine->backend, data, size, err);
	return r < 0 ? r : engine->backend_ops->start(engine->backend, 0, err);
}

/* The defaults of the model are as good as those of a request, or it is not served. */
static int check_sampling(const struct ds_engine *engine, struct ds_error *err)
{
	ds_cleanup(ds_chain_freep) struct ds_chain *chain = NULL;
	struct ds_failure failure;

	if (ds_chain_new(&chain, engine, NULL, &failure) < 0)
		return ds_fail(err, -EINVAL, "sampling of the model: %.200s", failure.error.text);
	return 0;
}

/* A page of a mapped file that is no longer there: the file was cut, or cannot be read. Nothing of it is left to be saved;
 * the broker knows the status, and the requests end with it. */
static void on_lost_page(int signal)
{
	_exit(DS_EXIT_FILE_CHANGED);
}

static int open_image(struct ds_engine *engine, const int *fds, unsigned n_fds, struct ds_error *err)
{
	const struct sigaction action = {.sa_handler = on_lost_page};
	int r = ds_image_open(&engine->image, fds[0], true, err);

	if (r == 0)
		r = ds_image_map_files(engine->image, fds + 1, n_fds - 1, err);
	if (r == 0 && n_fds > 1 && sigaction(SIGBUS, &action, NULL) < 0)
		r = ds_fail(err, -errno, "SIGBUS cannot be handled: %s", strerror(errno));
	return r;
}

static int open_all(struct ds_engine *engine, const json_t *map, const int *fds, unsigned n_fds, struct ds_error *err)
{
	struct map_options o = {0};
	int r = read_options(map, &o, err);

	if (r == 0)
		r = open_image(engine, fds, n_fds, err);
	if (r < 0)
		return r;
	engine->hparams = ds_image_hparams(engine->image);
	engine->arch = ds_arch_find(engine->hparams, err);
	if (!engine->arch)
		return -EINVAL;
	engine->sampling = json_incref(json_object_get(map, "sampling"));
	engine->plugin_options = json_incref(json_object_get(map, "plugins"));
	engine->precision = o.precision;
	engine->kv_dtype = o.kv_dtype;
	engine->parallel = o.parallel ? (uint32_t)o.parallel : 1;
	engine->context = o.context && o.context < engine->hparams->context ? (uint32_t)o.context :
									      engine->hparams->context;
	r = open_tokenizer(engine, err);
	if (r == 0)
		r = find_dialect(engine, o.dialect, err);
	if (r == 0)
		r = open_backend(engine, &o, err);
	if (r == 0)
		r = open_model(engine, &o, err);
	return r < 0 ? r : check_sampling(engine, err);
}

int ds_engine_new(struct ds_engine **out, const struct ds_plugins *plugins, const char *map, size_t map_size,
		  const int *fds, unsigned n_fds, struct ds_error *err)
{
	ds_cleanup(ds_engine_freep) struct ds_engine *engine = calloc(1, sizeof(*engine));
	json_error_t where;
	json_t *json;
	int r;

	if (!engine)
		return ds_fail(err, -ENOMEM, "no memory for an engine");
	engine->plugins = plugins;
	json = json_loadb(map, map_size, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(json)) {
		json_decref(json);
		return ds_fail(err, -EINVAL, "MAP is not a JSON object: %s", where.text);
	}
	r = open_all(engine, json, fds, n_fds, err);
	json_decref(json);
	if (r < 0)
		return r;
	*out = ds_steal(&engine);
	return 0;
}

struct ds_engine *ds_engine_free(struct ds_engine *engine)
{
	if (!engine)
		return NULL;
	if (engine->model)
		engine->arch->close(engine->model);
	if (engine->backend)
		engine->backend_ops->close(engine->backend);
	if (engine->tokenizer_ops)
		engine->tokenizer_ops->close(engine->tokenizer);
	json_decref(engine->sampling);
	json_decref(engine->plugin_options);
	ds_image_free(engine->image);
	free(engine);
	return NULL;
}

const char *ds_engine_token_text(const struct ds_engine *engine, uint32_t id, size_t *size)
{
	if (engine->tokenizer_ops && id < engine->vocabulary->n_tokens)
		return engine->tokenizer_ops->token_text(engine->tokenizer, id, size);
	*size = 0;
	return "";
}

uint32_t ds_engine_token_flags(const struct ds_engine *engine, uint32_t id)
{
	if (engine->vocabulary && id < engine->vocabulary->n_tokens)
		return engine->vocabulary->tokens[id].flags;
	return DS_TOKEN_UNUSED;
}

/* The vocabulary's ends, and the texts that the dialect stops at where they are one added token. */
bool ds_engine_is_eos(const struct ds_engine *engine, uint32_t id)
{
	const char *const *stop = engine->dialect ? engine->dialect->stops : NULL;

	if (!engine->vocabulary || id >= engine->vocabulary->n_tokens)
		return false;
	for (uint32_t i = 0; i < engine->vocabulary->n_eos; i++)
		if (engine->vocabulary->eos[i] == id)
			return true;
	if (!(engine->vocabulary->tokens[id].flags & DS_TOKEN_ADDED))
		return false;
	for (; stop && *stop; stop++)
		if (strlen(*stop) == engine->vocabulary->tokens[id].size &&
		    memcmp(*stop, engine->vocabulary->tokens[id].text, strlen(*stop)) == 0)
			return true;
	return false;
}

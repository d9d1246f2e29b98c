/* inspect.c - INSPECT: what a checkpoint is and what memory it would take, without reading a weight.
 *
 * The answer: {"architecture" (of the engine), "family" (as GGUF calls it), "name" (may be null), "parameters", "active_parameters" (a token), "mtp_parameters",
 * "layers", "hidden", "experts", "experts_used", "context", "vocab", "tokenizer" (null: none), "tokens", "dialect"
 * (null: unknown), "files", "file_size", "types": [{"type", "tensors", "parameters", "size"}...] as in the files, the
 * largest first, "memory": {"weights", "kv_per_token", "context", "kv", "scratch", "total"} in bytes, for one text of
 * so many tokens with the default settings}. */
#include "builder.h"
#include "describe.h"
#include "gguf-model.h"
#include "loader.h"
#include "requests.h"
#include "source.h"

#include <string.h>

#define CONTEXT 8192 /* tokens that memory is estimated for, if the model has so many */

/* Stands between the format and the model's builder, and remembers what that one does not. */
struct inspection {
	const struct ds_builder *builder;
	char tokenizer[32];
	char name[128];
	uint32_t n_tokens;
};

static int on_hparams(void *self, const struct ds_hparams *hparams, struct ds_error *err)
{
	const struct ds_builder *b = ((struct inspection *)self)->builder;

	return b->hparams(b->self, hparams, err);
}

static int on_vocabulary(void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	struct inspection *i = self;

	snprintf(i->tokenizer, sizeof(i->tokenizer), "%s", v->tokenizer ? v->tokenizer : "");
	i->n_tokens = v->n_tokens;
	return i->builder->vocabulary(i->builder->self, v, err);
}

static int on_chat_template(void *self, const char *chat_template, struct ds_error *err)
{
	const struct ds_builder *b = ((struct inspection *)self)->builder;

	return b->chat_template(b->self, chat_template, err);
}

static int on_tensor(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err)
{
	const struct ds_builder *b = ((struct inspection *)self)->builder;

	return b->tensor(b->self, desc, index, err);
}

static int on_part(void *self, const struct ds_part *part, struct ds_error *err)
{
	const struct ds_builder *b = ((struct inspection *)self)->builder;

	return b->part(b->self, part, err);
}

static int on_text(void *self, const char *key, const char *text, struct ds_error *err)
{
	struct inspection *i = self;

	if (strcmp(key, "general.name") == 0)
		snprintf(i->name, sizeof(i->name), "%s", text);
	return 0;
}

struct type {
	enum ds_dtype dtype;
	uint64_t n_tensors, n_elements, size;
};

struct sums {
	uint64_t all, active, mtp;
	struct type types[DS_N_DTYPES];
};

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Of a stack of experts a token goes through those that are chosen for it. */
static bool is_stack_of_experts(const char *name)
{
	const char *last = strrchr(name, '.');

	return last && begins(last, ".experts_");
}

static void add_up(struct sums *s, const struct ds_model_builder *builder, const struct ds_hparams *h)
{
	uint32_t n;
	const struct ds_model_tensor *tensors = ds_model_builder_tensors(builder, &n);

	for (unsigned i = 0; i < DS_N_DTYPES; i++)
		s->types[i].dtype = (enum ds_dtype)i;
	for (uint32_t i = 0; i < n; i++) {
		const struct ds_model_tensor *t = &tensors[i];
		uint64_t elements = t->rows * t->cols;

		for (uint32_t p = 0; p < t->n_parts; p++) {
			struct type *type = &s->types[t->parts[p].dtype];

			type->n_tensors += p == 0;
			type->n_elements += t->parts[p].n_rows * t->cols;
			type->size += t->parts[p].n_rows * ds_part_row_size(&t->parts[p], t->cols);
		}
		if (begins(t->desc.name, "mtp.")) {
			s->mtp += elements;
			continue;
		}
		s->all += elements;
		if (is_stack_of_experts(t->desc.name) && h->n_experts > 0)
			elements = elements / h->n_experts * h->n_experts_used;
		s->active += elements;
	}
}

static int by_size(const void *a, const void *b)
{
	const struct type *x = a, *y = b;

	return (x->size < y->size) - (x->size > y->size);
}

static json_t *types_json(struct sums *s)
{
	json_t *list = json_array();

	qsort(s->types, DS_N_DTYPES, sizeof(s->types[0]), by_size);
	for (unsigned i = 0; i < DS_N_DTYPES && s->types[i].size > 0; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:I, s:I, s:I}", "type", ds_dtype_info(s->types[i].dtype)->name,
					"tensors", (json_int_t)s->types[i].n_tensors, "parameters",
					(json_int_t)s->types[i].n_elements, "size", (json_int_t)s->types[i].size));
	return list;
}

static json_t *memory_json(const struct ds_image_writer *image, const struct ds_hparams *h)
{
	uint64_t context = h->context > 0 && h->context < CONTEXT ? h->context : CONTEXT;
	uint64_t per_token = ds_loader_kv_size(h, DS_PRECISION_FAST, "bf16");
	uint64_t weights = ds_image_writer_weights_size(image), scratch = ds_loader_scratch_size(h, 1), kv, total;

	/* sizes that hostile hyperparameters drive past the end stay there */
	if (__builtin_mul_overflow(per_token, context, &kv) || kv > INT64_MAX)
		kv = INT64_MAX;
	if (scratch > INT64_MAX)
		scratch = INT64_MAX;
	if (__builtin_add_overflow(weights, kv, &total) || __builtin_add_overflow(total, scratch, &total) ||
	    total > INT64_MAX)
		total = INT64_MAX;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)weights, "kv_per_token",
			 (json_int_t)per_token, "context", (json_int_t)context, "kv", (json_int_t)kv, "scratch",
			 (json_int_t)scratch, "total", (json_int_t)total);
}

static json_t *answer_json(const struct ds_request *q, const struct ds_model_builder *builder,
			   const struct inspection *i)
{
	const struct ds_image_writer *image = ds_model_builder_image(builder);
	const struct ds_hparams *h = ds_image_writer_get_hparams(image);
	const struct ds_habits habits = ds_model_builder_habits(builder);
	const char *dialect = ds_recognize_dialect(q->plugins, &habits);
	struct sums sums = {0};
	uint64_t file_size = 0;

	add_up(&sums, builder, h);
	for (size_t f = 0; f < q->n_files; f++)
		file_size += q->files[f].size;
	return json_pack(
		"{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s?, s:I, s:s?, s:I, s:I, s:o, s:o}",
		"architecture", h->architecture, "family", ds_gguf_architecture(h), "name", *i->name ? i->name : NULL, "parameters", (json_int_t)sums.all,
		"active_parameters", (json_int_t)sums.active, "mtp_parameters", (json_int_t)sums.mtp, "layers",
		(json_int_t)h->n_layers, "hidden", (json_int_t)h->hidden, "experts", (json_int_t)h->n_experts,
		"experts_used", (json_int_t)h->n_experts_used, "context", (json_int_t)h->context, "vocab",
		(json_int_t)h->vocab, "tokenizer", *i->tokenizer ? i->tokenizer : NULL, "tokens",
		(json_int_t)i->n_tokens, "dialect", *dialect ? dialect : NULL, "files", (json_int_t)q->n_files,
		"file_size", (json_int_t)file_size, "types", types_json(&sums), "memory", memory_json(image, h));
}

int ds_request_inspect(const struct ds_request *q, json_t **answer, struct ds_error *err)
{
	ds_cleanup(ds_model_builder_freep) struct ds_model_builder *builder = NULL;
	struct inspection i = {0};
	const struct ds_builder calls = {
		.size = sizeof(calls),
		.self = &i,
		.hparams = on_hparams,
		.vocabulary = on_vocabulary,
		.chat_template = on_chat_template,
		.tensor = on_tensor,
		.part = on_part,
		.text = on_text,
	};
	const struct ds_plugin *backend;
	size_t first = 0;
	int r;

	backend = ds_plugins_next(q->plugins, DS_PLUGIN_BACKEND, &first);
	if (!backend) {
		ds_plugins_find(q->plugins, DS_PLUGIN_BACKEND, "auto", NULL, err); /* says what was refused, and why */
		return -ENOENT;
	}
	r = ds_model_builder_new(&builder, q->files, q->n_files, err);
	if (r < 0)
		return r;
	i.builder = ds_model_builder_calls(builder);
	r = ds_describe(q->plugins, q->files, q->n_files, &calls, err);
	if (r == 0)
		r = ds_model_builder_plan(builder, backend->entries[0].ops, DS_PRECISION_FAST, err);
	if (r < 0)
		return r;
	*answer = answer_json(q, builder, &i);
	return *answer ? 0 : ds_fail(err, -EINVAL, "a name in the model is not UTF-8");
}

/* vectors-backend.c - one operation of a backend on small tensors, packed, mapped and read back as an engine does it.
 *
 * The first failure is kept in the run, and every later step does nothing: an operation below reads as its arguments,
 * the call and the answer. Outputs are followed by a guard, which has to be there afterwards. */
#include "dtype.h"
#include "vectors-kinds.h"

#include <deepseekd/backend.h>

#include <string.h>
#include <strings.h>

#define GUARD 16 /* floats after an output */
#define GUARD_VALUE 1234.5f
#define MAX_BUFFERS 16
#define IMAGE_ALIGN 4096

struct shape {
	uint64_t d[4];
	size_t count;
};

struct run {
	const struct ds_backend_ops *ops;
	const json_t *input;
	void *self;
	bool opened;
	struct ds_error *err;
	int r;
	void *image; /* the one packed weight */
	void *device[MAX_BUFFERS], *host[MAX_BUFFERS];
	unsigned n_device, n_host;
	json_t *got;
};

__attribute__((format(printf, 3, 4)))
static bool require(struct run *run, bool holds, const char *fmt, ...)
{
	va_list args;

	if (run->r < 0 || holds)
		return run->r == 0;
	va_start(args, fmt);
	vsnprintf(run->err->text, sizeof(run->err->text), fmt, args);
	va_end(args);
	run->r = -EINVAL;
	return false;
}

static void *on_host(struct run *run, void *p)
{
	if (p)
		run->host[run->n_host++] = p;
	require(run, p != NULL, "no memory");
	return p;
}

static void *on_device(struct run *run, const void *data, size_t size)
{
	void *p = run->r == 0 ? run->ops->alloc(run->self, size) : NULL;

	if (p) {
		run->device[run->n_device++] = p;
		run->ops->write(run->self, p, data, size);
	}
	require(run, p != NULL, "no memory on the device");
	return p;
}

static bool has(struct run *run, const char *key)
{
	return json_object_get(run->input, key) != NULL;
}

/* The floats under @key, in host memory. */
static float *floats(struct run *run, const char *key, unsigned n_dims, struct shape *shape)
{
	ds_cleanup(ds_vector_numbers_deinit) struct ds_vector_numbers numbers = {0};

	if (run->r == 0)
		run->r = ds_vector_numbers(run->input, key, n_dims, &numbers, run->err);
	if (run->r < 0)
		return NULL;
	memcpy(shape->d, numbers.shape, sizeof(shape->d));
	shape->count = numbers.count;
	require(run, shape->count > 0, "\"%s\" is empty", key);
	return on_host(run, ds_vector_floats(&numbers));
}

/* The floats under @key, on the device. */
static float *tensor(struct run *run, const char *key, unsigned n_dims, struct shape *shape)
{
	const float *data = floats(run, key, n_dims, shape);

	return data ? on_device(run, data, shape->count * sizeof(float)) : NULL;
}

static uint32_t *numbers_u32(struct run *run, const char *key, unsigned n_dims, size_t *count)
{
	uint32_t *values = NULL;

	if (run->r == 0)
		run->r = ds_vector_u32(run->input, key, n_dims, &values, count, run->err);
	return run->r < 0 ? NULL : on_host(run, values);
}

static uint32_t number(struct run *run, const char *key)
{
	const json_t *value = json_object_get(run->input, key);
	json_int_t n = json_integer_value(value);

	require(run, json_is_integer(value) && n > 0 && n <= 1 << 20, "\"%s\" is not a whole number from 1", key);
	return (uint32_t)n;
}

static float real(struct run *run, const char *key)
{
	require(run, json_is_number(json_object_get(run->input, key)), "\"%s\" is not a number", key);
	return (float)json_number_value(json_object_get(run->input, key));
}

static enum ds_dtype dtype(struct run *run)
{
	const char *name = json_string_value(json_object_get(run->input, "dtype"));

	for (unsigned i = 1; name && i < DS_N_DTYPES; i++)
		if (strcasecmp(ds_dtype_info(i)->name, name) == 0)
			return (enum ds_dtype)i;
	require(run, false, "\"dtype\" is not the name of a type");
	return DS_DTYPE_F32;
}

/* That of a cache, whose elements are read and written one by one. */
static enum ds_dtype float_dtype(struct run *run)
{
	enum ds_dtype type = dtype(run);

	return require(run, ds_dtype_is_float(type), "\"dtype\" is not f32, f16 or bf16") ? type : DS_DTYPE_F32;
}

/* @values narrowed to @type, in host memory. */
static void *narrow(struct run *run, const float *values, size_t n, enum ds_dtype type)
{
	uint16_t *to = on_host(run, calloc(n, sizeof(float)));

	if (to && type == DS_DTYPE_F32)
		memcpy(to, values, n * sizeof(float));
	else
		for (size_t i = 0; to && i < n; i++)
			to[i] = type == DS_DTYPE_F16 ? ds_f32_to_f16(values[i]) : ds_f32_to_bf16(values[i]);
	return to;
}

/* Pack @src as @layout says, block by block, the way ds-loader fills an image. */
static void pack(struct run *run, const struct ds_tensor_desc *desc, const struct ds_layout *layout, const char *src)
{
	uint64_t cols = desc->shape[desc->n_dims - 1], rows = 1, size;
	char *dst;

	for (unsigned i = 0; i + 1 < desc->n_dims; i++)
		rows *= desc->shape[i];
	if (!require(run, layout->block_rows > 0 && layout->block_size > 0, "plan() gives empty blocks"))
		return;
	size = (rows + layout->block_rows - 1) / layout->block_rows * layout->block_size;
	require(run, size <= layout->size, "plan() gives %llu bytes for blocks of %llu",
		(unsigned long long)layout->size, (unsigned long long)size);
	size = (layout->size + IMAGE_ALIGN - 1) / IMAGE_ALIGN * IMAGE_ALIGN;
	run->image = dst = run->r < 0 ? NULL : aligned_alloc(IMAGE_ALIGN, size);
	if (!require(run, dst != NULL, "no memory for %llu bytes", (unsigned long long)size))
		return;
	memset(dst, 0, size);
	for (uint64_t row = 0; row < rows; row += layout->block_rows) {
		uint64_t n = rows - row < layout->block_rows ? rows - row : layout->block_rows;

		run->ops->pack(desc, layout, n, src + row * ds_row_size(desc->dtype, cols), dst);
		dst += layout->block_size;
	}
	run->r = run->ops->map(run->self, run->image, size, run->err);
}

/* Blocks in hexadecimal: what is in arrays nested @n_dims - 1 deep goes to *@to and beyond, unless that is NULL. @shape is
 * all zero, or what it has to be. */
static void unhex(struct run *run, const json_t *from, unsigned n_dims, const struct ds_dtype_info *info,
		  uint64_t *shape, uint8_t **to)
{
	bool row = json_is_string(from);
	const char *text = row ? json_string_value(from) : "";
	size_t n_digits = strspn(text, "0123456789abcdef");
	uint64_t n = row ? n_digits / 2 / info->size * info->block : json_array_size(from);

	require(run, n_digits == strlen(text) && n_digits % (2 * info->size) == 0,
		"\"%.20s\" is not blocks of %s in hexadecimal", text, info->name);
	if (!require(run, n > 0 && (*shape == 0 || *shape == n) && (n_dims == 1) == row,
		     "quantised weights are not of one shape"))
		return;
	*shape = n;
	for (size_t i = 0; !row && i < n; i++)
		unhex(run, json_array_get(from, i), n_dims - 1, info, shape + 1, to);
	for (size_t i = 0; to && i < n_digits; i += 2) {
		unsigned byte = 0;

		sscanf(text + i, "%2x", &byte);
		*(*to)++ = (uint8_t)byte;
	}
}

/* The quantised weights under @key, in host memory. */
static void *blocks(struct run *run, const char *key, enum ds_dtype type, unsigned n_dims, struct shape *shape)
{
	const json_t *from = json_object_get(run->input, key);
	uint64_t n_rows = 1;
	uint8_t *data, *end;

	unhex(run, from, n_dims, ds_dtype_info(type), shape->d, NULL);
	for (unsigned i = 0; i + 1 < n_dims; i++)
		n_rows *= shape->d[i];
	data = run->r < 0 ? NULL : on_host(run, calloc(n_rows, ds_row_size(type, shape->d[n_dims - 1])));
	end = data;
	if (data)
		unhex(run, from, n_dims, ds_dtype_info(type), shape->d, &end);
	return data;
}

/* The weight under @key: planned, packed and mapped. */
static struct ds_weight weight(struct run *run, const char *key, unsigned n_dims)
{
	struct ds_tensor_desc desc = {.name = key, .dtype = dtype(run), .n_dims = n_dims};
	struct ds_layout layout = {0};
	struct shape shape = {{0}, 0};
	const float *values = NULL;
	const void *stored = NULL;

	if (ds_dtype_is_float(desc.dtype))
		values = floats(run, key, n_dims, &shape);
	else
		stored = blocks(run, key, desc.dtype, n_dims, &shape);
	if (values)
		stored = narrow(run, values, shape.count, desc.dtype);
	for (unsigned i = 0; i < DS_MAX_DIMS; i++)
		desc.shape[i] = i < n_dims ? shape.d[i] : 1;
	if (run->r == 0)
		run->r = run->ops->plan(&desc, DS_PRECISION_EXACT, &layout, run->err);
	if (run->r == 0)
		pack(run, &desc, &layout, stored);
	return (struct ds_weight){
		.data = run->image,
		.dtype = desc.dtype,
		.layout = layout.id,
		.n_experts = n_dims == 3 ? shape.d[0] : 1,
		.rows = shape.d[n_dims - 2],
		.cols = shape.d[n_dims - 1],
	};
}

/* Room for @count floats of output, with the guard after it. */
static float *output(struct run *run, const float *first, size_t count)
{
	float *values = run->r < 0 ? NULL : on_host(run, calloc(count + GUARD, sizeof(float)));

	if (!values)
		return NULL;
	for (size_t i = 0; i < count + GUARD; i++)
		values[i] = first && i < count ? first[i] : GUARD_VALUE;
	return on_device(run, values, (count + GUARD) * sizeof(float));
}

/* Read the @count elements of the output @y back and say them under @key. */
static void answer(struct run *run, const char *key, const void *y, bool whole, size_t count)
{
	float *values = run->r < 0 ? NULL : on_host(run, calloc(count + GUARD, sizeof(float)));

	if (!values)
		return;
	run->r = run->ops->sync(run->self, run->err);
	if (run->r < 0)
		return;
	run->ops->read(run->self, values, y, (count + GUARD) * sizeof(float));
	for (size_t i = count; i < count + GUARD; i++)
		require(run, values[i] == GUARD_VALUE, "%s was written past its end", key);
	if (!run->got)
		run->got = json_object();
	json_object_set_new(run->got, key,
			    whole ? ds_vector_from_u32((const uint32_t *)values, count)
				  : ds_vector_from_floats(values, count));
}

static void run_embed(struct run *run)
{
	struct ds_weight table = weight(run, "table", 2);
	size_t n = 0;
	const uint32_t *tokens = numbers_u32(run, "tokens", 1, &n);
	float *y = output(run, NULL, n * table.cols);

	for (size_t i = 0; run->r == 0 && i < n; i++)
		require(run, tokens[i] < table.rows, "token %u has no row", tokens[i]);
	if (run->r < 0)
		return;
	run->ops->embed(run->self, y, &table, tokens, (uint32_t)n);
	answer(run, "y", y, false, n * table.cols);
}

static void run_rms_norm(struct run *run)
{
	struct shape x_shape = {{0}, 0}, w_shape = {{0}, 0};
	const float *x = tensor(run, "x", 2, &x_shape), *w = tensor(run, "weight", 1, &w_shape);
	uint32_t n = (uint32_t)x_shape.d[0], width = (uint32_t)x_shape.d[1];
	float eps = real(run, "eps"), *y = output(run, NULL, x_shape.count);

	if (!require(run, w_shape.d[0] == width, "\"weight\" is not as wide as \"x\""))
		return;
	run->ops->rms_norm(run->self, y, width, x, width, w, width, n, eps);
	answer(run, "y", y, false, x_shape.count);
}

static void run_matmul(struct run *run)
{
	struct ds_weight w = weight(run, "w", 2);
	struct shape x_shape = {{0}, 0}, y_shape = {{0}, 0};
	struct ds_matmul op = {.x = tensor(run, "x", 2, &x_shape), .w = &w, .add = has(run, "y")};
	const float *first = op.add ? floats(run, "y", 2, &y_shape) : NULL;

	op.n = (uint32_t)x_shape.d[0];
	require(run, x_shape.d[1] == w.cols, "\"x\" is not as wide as \"w\"");
	require(run, !first || y_shape.count == op.n * w.rows, "\"y\" is not (n, rows)");
	op.y = output(run, first, op.n * w.rows);
	if (run->r < 0)
		return;
	run->ops->matmul(run->self, &op, 1);
	answer(run, "y", op.y, false, op.n * w.rows);
}

static void run_head_matmul(struct run *run)
{
	struct ds_weight w = weight(run, "w", 3);
	struct shape x_shape = {{0}, 0};
	struct ds_head_matmul op = {.x = tensor(run, "x", 3, &x_shape), .w = &w};

	op.n = (uint32_t)x_shape.d[0];
	require(run, x_shape.d[1] == w.n_experts && x_shape.d[2] == w.cols, "\"x\" is not (n, heads, cols)");
	op.x_head_stride = (uint32_t)w.cols;
	op.x_row_stride = (uint32_t)(w.cols * w.n_experts);
	op.y_head_stride = (uint32_t)w.rows;
	op.y_row_stride = (uint32_t)(w.rows * w.n_experts);
	op.y = output(run, NULL, op.n * w.n_experts * w.rows);
	if (run->r < 0)
		return;
	run->ops->head_matmul(run->self, &op);
	answer(run, "y", op.y, false, op.n * w.n_experts * w.rows);
}

static void run_expert_matmul(struct run *run)
{
	struct ds_weight w = weight(run, "w", 3);
	struct shape x_shape = {{0}, 0};
	size_t pairs = 0;
	const uint32_t *ids = numbers_u32(run, "ids", 2, &pairs);
	struct ds_expert_matmul op = {.x = tensor(run, "x", 2, &x_shape), .w = &w};

	op.n = (uint32_t)json_array_size(json_object_get(run->input, "ids"));
	op.k = op.n ? (uint32_t)(pairs / op.n) : 0;
	op.shared_input = json_is_true(json_object_get(run->input, "shared_input"));
	require(run, op.k > 0 && x_shape.d[0] == (op.shared_input ? op.n : pairs) && x_shape.d[1] == w.cols,
		"\"x\" does not suit \"w\" and \"ids\"");
	for (size_t i = 0; run->r == 0 && i < pairs; i++)
		require(run, ids[i] < w.n_experts, "expert %u of %llu", ids[i], (unsigned long long)w.n_experts);
	op.ids = ids ? on_device(run, ids, pairs * sizeof(*ids)) : NULL;
	op.y = output(run, NULL, pairs * w.rows);
	if (run->r < 0)
		return;
	run->ops->expert_matmul(run->self, &op, 1);
	answer(run, "y", op.y, false, pairs * w.rows);
}

static void run_expert_sum(struct run *run)
{
	struct shape x_shape = {{0}, 0}, w_shape = {{0}, 0}, y_shape = {{0}, 0};
	const float *x = tensor(run, "x", 2, &x_shape), *weights = tensor(run, "weights", 2, &w_shape);
	const float *first = floats(run, "y", 2, &y_shape);
	float *y = output(run, first, y_shape.count);

	require(run, x_shape.d[0] == w_shape.count && y_shape.d[0] == w_shape.d[0] && y_shape.d[1] == x_shape.d[1],
		"\"x\", \"weights\" and \"y\" do not suit each other");
	if (run->r < 0)
		return;
	run->ops->expert_sum(run->self, y, x, weights, (uint32_t)x_shape.d[1], (uint32_t)w_shape.d[0],
			     (uint32_t)w_shape.d[1]);
	answer(run, "y", y, false, y_shape.count);
}

static void run_route(struct run *run)
{
	const char *scoring = json_string_value(json_object_get(run->input, "scoring"));
	bool softmax = scoring && strcmp(scoring, "softmax") == 0, sigmoid = scoring && strcmp(scoring, "sigmoid") == 0;
	struct shape shape = {{0}, 0}, bias = {{0}, 0};
	struct ds_route op = {.logits = tensor(run, "logits", 2, &shape), .k = number(run, "k")};

	op.n = (uint32_t)shape.d[0];
	op.n_experts = (uint32_t)shape.d[1];
	op.bias = has(run, "bias") ? tensor(run, "bias", 1, &bias) : NULL;
	op.n_groups = has(run, "n_groups") ? number(run, "n_groups") : 1;
	op.n_groups_used = has(run, "n_groups_used") ? number(run, "n_groups_used") : op.n_groups;
	op.scoring = softmax ? DS_SCORING_SOFTMAX : DS_SCORING_SIGMOID;
	op.normalize = json_is_true(json_object_get(run->input, "normalize"));
	op.scale = has(run, "scale") ? real(run, "scale") : 1;
	require(run, softmax || sigmoid, "\"scoring\" is not softmax or sigmoid");
	require(run, !op.bias || bias.count == op.n_experts, "\"bias\" is not (n_experts)");
	require(run,
		op.n_groups_used <= op.n_groups && op.n_experts % op.n_groups == 0 &&
			op.k <= op.n_experts / op.n_groups * op.n_groups_used,
		"\"k\" and the groups do not suit \"logits\"");
	op.ids = (uint32_t *)output(run, NULL, (size_t)op.n * op.k);
	op.weights = output(run, NULL, (size_t)op.n * op.k);
	if (run->r < 0)
		return;
	run->ops->route(run->self, &op);
	answer(run, "ids", op.ids, true, (size_t)op.n * op.k);
	answer(run, "weights", op.weights, false, (size_t)op.n * op.k);
}

static void run_rope(struct run *run)
{
	struct shape shape = {{0}, 0}, half = {{0}, 0};
	const float *x = floats(run, "x", 3, &shape);
	struct ds_rope op = {.x = output(run, x, shape.count), .frequencies = tensor(run, "frequencies", 1, &half)};
	size_t n = 0;
	struct ds_rows rows = {.positions = numbers_u32(run, "positions", 1, &n), .n = (uint32_t)n};

	require(run, n == shape.d[0] && 2 * half.count == shape.d[2],
		"\"x\", \"frequencies\" and \"positions\" do not suit each other");
	if (run->r < 0)
		return;
	rows.n = (uint32_t)n;
	op.rows = &rows;
	op.n_heads = (uint32_t)shape.d[1];
	op.head_stride = op.width = (uint32_t)shape.d[2];
	op.row_stride = op.n_heads * op.width;
	op.halves = json_is_true(json_object_get(run->input, "halves"));
	run->ops->rope(run->self, &op);
	answer(run, "y", op.x, false, shape.count);
}

/* "positions" and "pages", checked against a cache of @n_pages pages. */
static struct ds_rows read_rows(struct run *run, uint32_t n_pages, uint32_t page_tokens)
{
	size_t n = 0, n_entries = 0, a_row;
	const uint32_t *positions = numbers_u32(run, "positions", 1, &n);
	uint32_t *pages = numbers_u32(run, "pages", 2, &n_entries);
	const uint32_t **tables = on_host(run, calloc(n + 1, sizeof(*tables)));

	require(run, n > 0 && json_array_size(json_object_get(run->input, "pages")) == n,
		"\"pages\" and \"positions\" have not as many rows");
	a_row = n ? n_entries / n : 0;
	for (size_t i = 0; run->r == 0 && i < n; i++) {
		require(run, positions[i] / page_tokens < a_row, "position %u is in no page", positions[i]);
		tables[i] = pages + i * a_row;
	}
	for (size_t i = 0; run->r == 0 && i < n_entries; i++)
		require(run, pages[i] < n_pages, "page %u of %u", pages[i], n_pages);
	return (struct ds_rows){.n = (uint32_t)n, .positions = positions, .pages = tables};
}

static void run_kv_store(struct run *run)
{
	struct shape shape = {{0}, 0};
	const float *x = tensor(run, "x", 2, &shape);
	uint32_t n_pages = number(run, "n_pages"), page_tokens = number(run, "page_tokens");
	struct ds_rows rows = run->r < 0 ? (struct ds_rows){0} : read_rows(run, n_pages, page_tokens);
	struct ds_kv kv = {.dtype = float_dtype(run), .page_tokens = page_tokens, .width = (uint32_t)shape.d[1]};
	size_t count = (size_t)n_pages * page_tokens * kv.width;
	void *raw = run->r < 0 ? NULL : on_host(run, calloc(count, sizeof(float)));
	float *wide = run->r < 0 ? NULL : on_host(run, calloc(count, sizeof(float)));

	require(run, rows.n == shape.d[0], "\"x\" has not as many rows as \"positions\"");
	kv.data = run->r < 0 ? NULL : on_device(run, raw, count * ds_dtype_size(kv.dtype));
	if (run->r < 0)
		return;
	run->ops->kv_store(run->self, &kv, x, kv.width, &rows);
	run->r = run->ops->sync(run->self, run->err);
	run->ops->read(run->self, raw, kv.data, count * ds_dtype_size(kv.dtype));
	ds_dequantize_row(wide, raw, kv.dtype, count);
	answer(run, "y", output(run, wide, count), false, count);
}

static void run_latent_attention(struct run *run)
{
	struct shape q = {{0}, 0}, rope = {{0}, 0}, cache = {{0}, 0};
	struct ds_latent_attention op = {
		.q = tensor(run, "q", 3, &q),
		.q_rope = tensor(run, "q_rope", 3, &rope),
		.scale = real(run, "scale"),
	};
	const float *values = floats(run, "cache", 2, &cache);
	struct ds_kv kv = {.dtype = float_dtype(run), .page_tokens = number(run, "page_tokens")};
	uint32_t n_pages = run->r < 0 ? 0 : (uint32_t)(cache.d[0] / kv.page_tokens);
	struct ds_rows rows = run->r < 0 ? (struct ds_rows){0} : read_rows(run, n_pages, kv.page_tokens);
	const void *narrowed = run->r < 0 ? NULL : narrow(run, values, cache.count, kv.dtype);

	require(run, rows.n == q.d[0] && q.d[0] == rope.d[0] && q.d[1] == rope.d[1] && q.d[2] + rope.d[2] == cache.d[1],
		"\"q\", \"q_rope\", \"cache\" and \"positions\" do not suit each other");
	kv.data = narrowed ? on_device(run, narrowed, cache.count * ds_dtype_size(kv.dtype)) : NULL;
	kv.width = (uint32_t)cache.d[1];
	op.z = output(run, NULL, q.count);
	if (run->r < 0)
		return;
	op.kv = &kv;
	op.rows = &rows;
	op.n_heads = (uint32_t)q.d[1];
	op.kv_lora = (uint32_t)q.d[2];
	op.qk_rope = op.q_rope_head_stride = (uint32_t)rope.d[2];
	op.q_rope_row_stride = op.n_heads * op.qk_rope;
	run->ops->latent_attention(run->self, &op);
	answer(run, "y", op.z, false, q.count);
}

/* The cache under @key, of @cache's type and pages; @n_slots and @width are what all caches of an operation have. */
static void read_cache(struct run *run, const char *key, struct ds_kv *cache, uint64_t *n_slots, uint64_t *width)
{
	struct shape shape = {{0}, 0};
	const float *values = floats(run, key, 2, &shape);
	const void *narrowed = values ? narrow(run, values, shape.count, cache->dtype) : NULL;

	require(run, !*n_slots || (*n_slots == shape.d[0] && *width == shape.d[1]), "\"%s\" is not of the other's size",
		key);
	*n_slots = shape.d[0];
	*width = shape.d[1];
	cache->width = (uint32_t)shape.d[1];
	cache->data = narrowed ? on_device(run, narrowed, shape.count * ds_dtype_size(cache->dtype)) : NULL;
}

static void run_attention(struct run *run)
{
	struct shape q = {{0}, 0};
	struct ds_attention op = {
		.q = tensor(run, "q", 3, &q),
		.n_kv_heads = number(run, "n_kv_heads"),
		.scale = real(run, "scale"),
	};
	struct ds_kv k = {.dtype = float_dtype(run), .page_tokens = number(run, "page_tokens")}, v = k;
	uint64_t n_slots = 0, width = 0;
	struct ds_rows rows = {0};

	read_cache(run, "k", &k, &n_slots, &width);
	read_cache(run, "v", &v, &n_slots, &width);
	if (run->r == 0)
		rows = read_rows(run, (uint32_t)(n_slots / k.page_tokens), k.page_tokens);
	require(run, run->r == 0 && rows.n == q.d[0] && q.d[1] % op.n_kv_heads == 0 && op.n_kv_heads * q.d[2] == width,
		"\"q\", \"k\", \"n_kv_heads\" and \"positions\" do not suit each other");
	op.y = output(run, NULL, q.count);
	if (run->r < 0)
		return;
	op.k = &k;
	op.v = &v;
	op.rows = &rows;
	op.n_heads = (uint32_t)q.d[1];
	op.head_dim = (uint32_t)q.d[2];
	run->ops->attention(run->self, &op);
	answer(run, "y", op.y, false, q.count);
}

static void run_add_bias(struct run *run)
{
	struct shape y_shape = {{0}, 0}, bias_shape = {{0}, 0};
	const float *first = floats(run, "y", 2, &y_shape), *bias = tensor(run, "bias", 1, &bias_shape);
	float *y = output(run, first, y_shape.count);

	if (!require(run, bias_shape.count == y_shape.d[1], "\"bias\" is not as wide as \"y\""))
		return;
	run->ops->add_bias(run->self, y, bias, (uint32_t)y_shape.d[1], (uint32_t)y_shape.d[0]);
	answer(run, "y", y, false, y_shape.count);
}

static void run_swiglu(struct run *run)
{
	unsigned n_dims = json_is_array(json_array_get(json_object_get(run->input, "gate"), 0)) ? 2 : 1;
	struct shape gate_shape = {{0}, 0}, up_shape = {{0}, 0};
	const float *gate = tensor(run, "gate", n_dims, &gate_shape), *up = tensor(run, "up", n_dims, &up_shape);
	float *y = output(run, NULL, gate_shape.count);

	if (!require(run, gate_shape.count == up_shape.count, "\"gate\" and \"up\" are not of one size"))
		return;
	run->ops->swiglu(run->self, y, gate, up, gate_shape.count);
	answer(run, "y", y, false, gate_shape.count);
}

static void run_gather(struct run *run)
{
	struct shape shape = {{0}, 0};
	const float *x = tensor(run, "x", 2, &shape);
	size_t n = 0;
	const uint32_t *indices = numbers_u32(run, "indices", 1, &n);
	float *y = output(run, NULL, n * shape.d[1]);

	for (size_t i = 0; run->r == 0 && i < n; i++)
		require(run, indices[i] < shape.d[0], "index %u has no row", indices[i]);
	if (run->r < 0)
		return;
	run->ops->gather(run->self, y, x, indices, (uint32_t)shape.d[1], (uint32_t)n);
	answer(run, "y", y, false, n * shape.d[1]);
}

static const struct operation {
	const char *name;
	void (*function)(struct run *run);
	const char *keys[12];
} operations[] = {
	{"embed", run_embed, {"op", "dtype", "table", "tokens"}},
	{"rms_norm", run_rms_norm, {"op", "x", "weight", "eps"}},
	{"matmul", run_matmul, {"op", "dtype", "x", "w", "y"}},
	{"head_matmul", run_head_matmul, {"op", "dtype", "x", "w"}},
	{"expert_matmul", run_expert_matmul, {"op", "dtype", "x", "w", "ids", "shared_input"}},
	{"expert_sum", run_expert_sum, {"op", "x", "weights", "y"}},
	{"route",
	 run_route,
	 {"op", "logits", "bias", "k", "n_groups", "n_groups_used", "scoring", "normalize", "scale"}},
	{"rope", run_rope, {"op", "x", "frequencies", "positions", "halves"}},
	{"kv_store", run_kv_store, {"op", "dtype", "x", "positions", "pages", "page_tokens", "n_pages"}},
	{"latent_attention",
	 run_latent_attention,
	 {"op", "dtype", "q", "q_rope", "cache", "positions", "pages", "page_tokens", "scale"}},
	{"swiglu", run_swiglu, {"op", "gate", "up"}},
	{"gather", run_gather, {"op", "x", "indices"}},
	{"attention",
	 run_attention,
	 {"op", "dtype", "q", "k", "v", "n_kv_heads", "positions", "pages", "page_tokens", "scale"}},
	{"add_bias", run_add_bias, {"op", "y", "bias"}},
};

static void run_deinit(struct run *run)
{
	for (unsigned i = 0; i < run->n_device; i++)
		run->ops->release(run->self, run->device[i]);
	for (unsigned i = 0; i < run->n_host; i++)
		free(run->host[i]);
	if (run->opened)
		run->ops->close(run->self);
	free(run->image);
}

int ds_vector_backend(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	const char *name = json_string_value(json_object_get(c->input, "op"));
	const struct operation *operation = NULL;
	ds_cleanup(run_deinit) struct run run = {.ops = c->entry->ops, .input = c->input, .err = err};

	for (size_t i = 0; name && i < DS_ARRAY_SIZE(operations); i++)
		if (strcmp(operations[i].name, name) == 0)
			operation = &operations[i];
	if (!operation)
		return ds_fail(err, -EINVAL, "\"op\" is no operation: %.40s", name ? name : "absent");
	run.r = ds_vector_keys(c->input, operation->keys, err);
	if (run.r == 0) {
		run.r = run.ops->open(&run.self, c->host, NULL, err);
		run.opened = run.r == 0;
	}
	if (run.r == 0)
		run.r = run.ops->start(run.self, 1, err); /* the calling thread: none is made */
	if (run.r == 0)
		operation->function(&run);
	*got = run.got;
	return run.r;
}

/* convert.c - QUANTIZE: writes a model into the GGUF file whose descriptor came with the request.
 *
 * The request: {"type": a mix of gguf-mix.h, "name": text (for want of a better one)}. The answer: {"size", "tensors"}.
 * Rows are read, turned and written by as many threads as there are CPUs; what is in memory does not grow with the
 * model. Blocks of multi-token prediction are left out: GGUF has no common form for them. */
#include "builder.h"
#include "describe.h"
#include "gguf-mix.h"
#include "gguf-model.h"
#include "quantize.h"
#include "requests.h"
#include "source.h"

#include <deepseekd/quants.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (1u << 20) /* elements that a thread takes at a time, if rows allow */
#define MAX_THREADS 64

/* What is kept of the description besides the builder. */
struct words {
	struct ds_gguf_writer *writer;
	const struct ds_builder *builder;
	struct ds_hparams hparams;
	char *name, *chat_template;
	const char *fallback_name;
	const struct ds_mix *mix;
	bool has_vocabulary;
};

/* A tensor of the file. */
struct target {
	const struct ds_model_tensor *t;
	enum ds_dtype dtype;
	uint64_t offset;
	bool permuted;
};

struct conversion {
	const struct ds_request *request;
	const struct ds_model_builder *builder;
	const struct ds_hparams *hparams;
	int fd;
	struct target *targets; /* [n] */
	uint32_t n;
	uint64_t total; /* bytes of the file */
	/* guarded */
	pthread_mutex_t lock;
	uint32_t next;     /* target */
	uint64_t next_row; /* of it */
	uint64_t done, reported;
	int result;
	struct ds_error error;
};

/* One thread's. */
struct worker {
	struct conversion *c;
	struct ds_source source;
	void *rows, *blocks;
	float *values;
	size_t rows_size, blocks_size, values_size;
};

static void words_deinit(struct words *w)
{
	ds_gguf_writer_free(w->writer);
	free(w->name);
	free(w->chat_template);
}

static int on_hparams(void *self, const struct ds_hparams *hparams, struct ds_error *err)
{
	struct words *w = self;

	if (!ds_gguf_architecture(hparams))
		return ds_fail(err, -ENOTSUP, "GGUF has no architecture for this model (%.31s with biases and norms)",
			       hparams->architecture);
	w->hparams = *hparams;
	return w->builder->hparams(w->builder->self, hparams, err);
}

static int on_vocabulary(void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	struct words *w = self;
	int r = w->builder->vocabulary(w->builder->self, v, err);

	if (r < 0)
		return r;
	w->has_vocabulary = true;
	return ds_gguf_put_vocabulary(w->writer, v, NULL, w->hparams.vocab, err);
}

static int keep_text(char **to, const char *text, struct ds_error *err)
{
	free(*to);
	*to = strdup(text);
	return *to ? 0 : ds_fail(err, -ENOMEM, "no memory for what the model says of itself");
}

static int on_template(void *self, const char *chat_template, struct ds_error *err)
{
	return keep_text(&((struct words *)self)->chat_template, chat_template, err);
}

static int on_tensor(void *self, const struct ds_tensor_desc *desc, uint32_t *index, struct ds_error *err)
{
	const struct ds_builder *b = ((struct words *)self)->builder;

	return b->tensor(b->self, desc, index, err);
}

static int on_part(void *self, const struct ds_part *part, struct ds_error *err)
{
	const struct ds_builder *b = ((struct words *)self)->builder;

	return b->part(b->self, part, err);
}

static int on_text(void *self, const char *key, const char *text, struct ds_error *err)
{
	struct words *w = self;

	return strcmp(key, "general.name") == 0 ? keep_text(&w->name, text, err) : 0;
}

/* Rows as they are: the layout in which a source hands them out. */
static int plan_plain(const struct ds_tensor_desc *t, enum ds_precision precision, struct ds_layout *layout,
		      struct ds_error *err)
{
	uint64_t rows = 1;

	for (uint32_t i = 0; i + 1 < t->n_dims; i++)
		rows *= t->shape[i];
	*layout = (struct ds_layout){.block_rows = 1, .block_size = ds_row_size(t->dtype, t->shape[t->n_dims - 1])};
	layout->size = rows * layout->block_size;
	return 0;
}

static const char *identity_plain(void)
{
	return "plain";
}

static void put_general(struct words *w)
{
	const char *name = w->name ? w->name : w->fallback_name;

	ds_gguf_writer_text(w->writer, NULL, "general.architecture", ds_gguf_architecture(&w->hparams));
	ds_gguf_writer_text(w->writer, NULL, "general.type", "model");
	if (name)
		ds_gguf_writer_text(w->writer, NULL, "general.name", name);
	ds_gguf_writer_u32(w->writer, NULL, "general.file_type", w->mix->file_type);
	if (!ds_dtype_is_float(w->mix->base))
		ds_gguf_writer_u32(w->writer, NULL, "general.quantization_version", 2);
	ds_gguf_put_hparams(w->writer, &w->hparams, false);
	if (w->chat_template && *w->chat_template)
		ds_gguf_writer_text(w->writer, NULL, "tokenizer.chat_template", w->chat_template);
	if (!w->has_vocabulary)
		ds_gguf_writer_text(w->writer, NULL, "tokenizer.ggml.model", "no_vocab");
}

/* Choose a type for every tensor and tell the writer; the divisors of frequencies, if there are, become the last one.
 */
static int choose(struct conversion *c, struct words *w, struct ds_error *err)
{
	uint32_t n;
	const struct ds_model_tensor *tensors = ds_model_builder_tensors(c->builder, &n);
	float divisors[DS_MAX_ROPE_PAIRS];
	bool tied = true;

	c->targets = calloc((size_t)n + 1, sizeof(*c->targets));
	if (!c->targets)
		return ds_fail(err, -ENOMEM, "no memory for %u tensors", n);
	for (uint32_t i = 0; i < n; i++)
		tied = tied && strcmp(tensors[i].desc.name, "output") != 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct ds_tensor_desc *desc = &tensors[i].desc;
		struct target *to = &c->targets[c->n];
		uint64_t ne[DS_MAX_DIMS];
		char name[128];

		if (!ds_gguf_tensor_name(name, sizeof(name), desc->name))
			continue;
		for (uint32_t d = 0; d < desc->n_dims; d++)
			ne[d] = desc->shape[desc->n_dims - 1 - d];
		*to = (struct target){
			.t = &tensors[i],
			.dtype = ds_mix_type(w->mix, c->hparams, desc->name, desc->n_dims, tensors[i].cols, tied),
			.permuted = ds_gguf_is_permuted(c->hparams, desc->name),
		};
		ds_gguf_writer_tensor(w->writer, name, to->dtype, desc->n_dims, ne);
		c->n++;
	}
	if (ds_gguf_rope_divisors(c->hparams, divisors))
		ds_gguf_writer_tensor(w->writer, "rope_freqs.weight", DS_DTYPE_F32, 1,
				      &(uint64_t){c->hparams->head_dim / 2});
	return 0;
}

static int write_at(const struct conversion *c, const void *data, size_t size, uint64_t offset, struct ds_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(c->fd, (const char *)data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ds_fail(err, -ENOSPC, "the new file cannot be written: %s",
				       strerror(n < 0 ? errno : ENOSPC));
		done += (size_t)n;
	}
	return 0;
}

/* Rows of a chunk: whole heads where the rows of heads change places. */
static uint64_t chunk_rows(const struct conversion *c, const struct target *to)
{
	uint64_t rows = CHUNK / to->t->cols, unit = to->permuted ? c->hparams->head_dim : 1;

	if (to->t->desc.n_dims == 1)
		return 1;
	return rows > unit ? rows / unit * unit : unit;
}

/* The row of the file, counted from the first of its chunk, for row @row of the chunk. */
static uint64_t place_of(const struct conversion *c, const struct target *to, uint64_t row)
{
	uint64_t size = c->hparams->head_dim, i = row % size;

	if (!to->permuted)
		return row;
	return row - i + (i < size / 2 ? 2 * i : 2 * (i - size / 2) + 1);
}

/* A bias is one row: its elements are what is permuted. */
static int permute_elements(const struct conversion *c, const struct target *to, float *values, struct ds_error *err)
{
	uint64_t n = to->t->cols;
	ds_cleanup(ds_freep) float *copy = malloc(n * sizeof(*copy));

	if (!copy)
		return ds_fail(err, -ENOMEM, "no memory for tensor %s", to->t->desc.name);
	memcpy(copy, values, n * sizeof(*copy));
	for (uint64_t i = 0; i < n; i++)
		values[place_of(c, to, i)] = copy[i];
	return 0;
}

static int convert_row(struct worker *w, const struct target *to, const void *from, void *block, struct ds_error *err)
{
	enum ds_dtype dtype = to->t->desc.dtype;
	bool permuted = to->permuted && to->t->desc.n_dims == 1;
	uint64_t cols = to->t->cols;
	int r;

	if (dtype == to->dtype && !permuted) {
		memcpy(block, from, ds_row_size(dtype, cols));
		return 0;
	}
	ds_dequantize_row(w->values, from, dtype, cols);
	r = permuted ? permute_elements(w->c, to, w->values, err) : 0;
	if (r < 0)
		return r;
	r = ds_quantize_row(block, w->values, to->dtype, cols);
	if (r == -EINVAL)
		return ds_fail(err, -EINVAL, "tensor %s has an element that is not a finite number", to->t->desc.name);
	if (r < 0)
		return ds_fail(err, -EINVAL, "tensor %s has an element that is too large for %s", to->t->desc.name,
			       ds_dtype_info(to->dtype)->name);
	return 0;
}

static int convert_chunk(struct worker *w, const struct target *to, uint64_t row, uint64_t n_rows, struct ds_error *err)
{
	uint64_t cols = to->t->cols, from_size = ds_row_size(to->t->desc.dtype, cols);
	uint64_t size = ds_row_size(to->dtype, cols);
	bool whole_rows = to->permuted && to->t->desc.n_dims > 1;
	int r = ds_source_reserve(&w->rows, &w->rows_size, n_rows * from_size, err);

	if (r == 0)
		r = ds_source_reserve(&w->blocks, &w->blocks_size, n_rows * size, err);
	if (r == 0)
		r = ds_source_reserve((void **)&w->values, &w->values_size, cols * sizeof(float), err);
	if (r == 0)
		r = ds_source_read(&w->source, to->t, row, n_rows, w->rows, err);
	for (uint64_t i = 0; r == 0 && i < n_rows; i++)
		r = convert_row(w, to, (const char *)w->rows + i * from_size,
				(char *)w->blocks + (whole_rows ? place_of(w->c, to, i) : i) * size, err);
	if (r == 0)
		r = write_at(w->c, w->blocks, n_rows * size, to->offset + row * size, err);
	ds_source_advise(&w->source, to->t, row, n_rows, POSIX_FADV_DONTNEED);
	return r;
}

/* The next chunk; false: there is none, or somebody failed. */
static bool take(struct conversion *c, const struct target **to, uint64_t *row, uint64_t *n_rows)
{
	bool taken = false;

	pthread_mutex_lock(&c->lock);
	if (c->result == 0 && c->next < c->n) {
		const struct target *t = &c->targets[c->next];
		uint64_t n = chunk_rows(c, t), rest = t->t->rows - c->next_row;

		*to = t;
		*row = c->next_row;
		*n_rows = n < rest ? n : rest;
		c->next_row += *n_rows;
		if (c->next_row == t->t->rows) {
			c->next++;
			c->next_row = 0;
		}
		taken = true;
	}
	pthread_mutex_unlock(&c->lock);
	return taken;
}

static void report(struct conversion *c, uint64_t size, int r, const struct ds_error *err)
{
	pthread_mutex_lock(&c->lock);
	c->done += size;
	if (r == 0 && c->result == 0 && c->done - c->reported > c->total / 200) {
		c->reported = c->done;
		c->result = c->request->progress(c->request->self, c->done, c->total, &c->error);
	}
	if (r < 0 && c->result == 0) {
		c->result = r;
		c->error = *err;
	}
	pthread_mutex_unlock(&c->lock);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct target *to;
	uint64_t row, n_rows;

	while (take(w->c, &to, &row, &n_rows)) {
		struct ds_error err = {""};
		int r = convert_chunk(w, to, row, n_rows, &err);

		report(w->c, n_rows * ds_row_size(to->dtype, to->t->cols), r, &err);
	}
	return NULL;
}

/* This thread works too; without others it does all. */
static int run_workers(struct conversion *c, struct ds_error *err)
{
	struct worker workers[MAX_THREADS] = {0};
	pthread_t threads[MAX_THREADS];
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = n_cpus < 1 ? 1 : n_cpus > MAX_THREADS ? MAX_THREADS : (unsigned)n_cpus, started = 0;

	for (unsigned i = 0; i < n; i++) {
		workers[i].c = c;
		ds_source_init(&workers[i].source, c->builder);
	}
	while (started + 1 < n && pthread_create(&threads[started], NULL, work, &workers[started + 1]) == 0)
		started++;
	work(&workers[0]);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < n; i++) {
		ds_source_deinit(&workers[i].source);
		free(workers[i].rows);
		free(workers[i].blocks);
		free(workers[i].values);
	}
	if (c->result < 0 && err)
		*err = c->error;
	return c->result;
}

/* Room for the whole file before hours are spent on it; where the file system cannot say, it shows while writing. */
static int reserve(int fd, uint64_t size, struct ds_error *err)
{
	if (fallocate(fd, 0, 0, (off_t)size) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return ds_fail(err, -ENOSPC, "no room for the new file of %llu bytes: %s", (unsigned long long)size,
			       strerror(errno));
	return ftruncate(fd, (off_t)size) < 0
		       ? ds_fail(err, -ENOSPC, "the new file cannot be written: %s", strerror(errno))
		       : 0;
}

static int write_file(struct conversion *c, struct words *w, struct ds_error *err)
{
	float divisors[DS_MAX_ROPE_PAIRS];
	int r;

	put_general(w);
	r = choose(c, w, err);
	if (r == 0)
		r = ds_gguf_writer_layout(w->writer, err);
	if (r < 0)
		return r;
	c->total = ds_gguf_writer_size(w->writer);
	for (uint32_t i = 0; i < c->n; i++)
		c->targets[i].offset = ds_gguf_writer_offset(w->writer, i);
	r = reserve(c->fd, c->total, err);
	if (r == 0)
		r = ds_gguf_writer_write(w->writer, c->fd, err);
	if (r == 0 && ds_gguf_rope_divisors(c->hparams, divisors))
		r = write_at(c, divisors, c->hparams->head_dim / 2 * sizeof(*divisors),
			     ds_gguf_writer_offset(w->writer, c->n), err);
	return r < 0 ? r : run_workers(c, err);
}

static int describe(struct words *w, struct ds_model_builder *builder, const struct ds_request *q, struct ds_error *err)
{
	static const struct ds_backend_ops plain = {.plan = plan_plain, .identity = identity_plain};
	const struct ds_builder calls = {
		.size = sizeof(calls),
		.self = w,
		.hparams = on_hparams,
		.vocabulary = on_vocabulary,
		.chat_template = on_template,
		.tensor = on_tensor,
		.part = on_part,
		.text = on_text,
	};
	int r;

	w->builder = ds_model_builder_calls(builder);
	r = ds_describe(q->plugins, q->files, q->n_files, &calls, err);
	return r < 0 ? r : ds_model_builder_plan(builder, &plain, DS_PRECISION_EXACT, err);
}

int ds_request_quantize(const struct ds_request *q, json_t **answer, struct ds_error *err)
{
	ds_cleanup(ds_model_builder_freep) struct ds_model_builder *builder = NULL;
	ds_cleanup(words_deinit) struct words w = {.fallback_name =
							   json_string_value(json_object_get(q->json, "name"))};
	struct conversion c = {.request = q, .lock = PTHREAD_MUTEX_INITIALIZER};
	const char *type = json_string_value(json_object_get(q->json, "type"));
	char names[256];
	int r;

	w.mix = type ? ds_mix_find(type) : NULL;
	if (!w.mix)
		return ds_fail(err, -EBADR, "there is no type %.32s; there are %s", type ? type : "(none)",
			       ds_mix_names(names, sizeof(names)));
	if (q->message->n_fds != 1)
		return ds_fail(err, -EPROTO, "QUANTIZE comes without a file to write");
	c.fd = q->message->fds[0];
	r = ds_gguf_writer_new(&w.writer, err);
	if (r == 0)
		r = ds_model_builder_new(&builder, q->files, q->n_files, err);
	if (r == 0)
		r = describe(&w, builder, q, err);
	c.builder = builder;
	c.hparams = &w.hparams;
	if (r == 0)
		r = write_file(&c, &w, err);
	free(c.targets);
	if (r < 0)
		return r;
	*answer = json_pack("{s:I, s:I}", "size", (json_int_t)c.total, "tensors", (json_int_t)c.n);
	return *answer ? 0 : ds_fail(err, -ENOMEM, "no memory for an answer");
}

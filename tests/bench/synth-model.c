/* synth-model.c - writes a GGUF file of the shape of a published model, with random weights: for benchmarks against
 * models that cannot be had here, and for tests of sizes.
 *
 *     synth-model PRESET FILE [TYPE] [joint]
 *
 * Weights are drawn from a pool of blocks that were quantised from normal numbers, so that they have the distribution
 * and the bits of real ones and are written as fast as memory is copied. Their deviations keep activations near 1 in
 * every layer, and logits a few units apart. */
#include "gguf-mix.h"
#include "gguf-model.h"
#include "quantize.h"
#include "synth-presets.h"
#include "synth-words.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>

#define POOL 1024         /* units of a pool */
#define BUFFER (4u << 20) /* bytes written at a time */
#define UNIT_OF_FLOATS 32 /* elements of a unit where blocks are single elements */
#define TEMPLATE                                                                                                       \
	"{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<\xef\xbd\x9cUser\xef\xbd\x9c>{{ "          \
	"m['content'] }}{% else %}<\xef\xbd\x9c"                                                                       \
	"Assistant\xef\xbd\x9c>{{ m['content'] }}{% endif %}{% endfor %}{% if "                                        \
	"add_generation_prompt %}<\xef\xbd\x9c"                                                                        \
	"Assistant\xef\xbd\x9c><think>\n{% endif %}"

/* Units of one type and deviation, to draw from. */
struct pool {
	enum ds_dtype dtype;
	double deviation;
	uint32_t elements, size; /* of a unit */
	uint8_t *units;          /* [POOL] */
};

struct synth {
	const struct synth_preset *preset;
	const struct ds_mix *mix;
	struct ds_gguf_writer *writer;
	int fd;
	uint32_t n; /* tensors so far, in either pass */
	uint64_t state;
	struct pool pools[64];
	unsigned n_pools;
	uint8_t *buffer;
};

static uint32_t next_random(struct synth *s)
{
	s->state = s->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(s->state >> 33);
}

static double next_normal(struct synth *s)
{
	double radius = sqrt(-2 * log((next_random(s) + 0.5) / 0x1p31));

	return radius * cos(2 * M_PI * next_random(s) / 0x1p31);
}

/* A row of weights times activations of deviation 1 shall have deviation 1; logits 2. Rows of the embedding are
 * activations themselves. */
static double deviation_of(const struct ds_tensor_desc *desc)
{
	double cols = (double)desc->shape[desc->n_dims - 1];

	if (strcmp(desc->name, "token_embedding") == 0)
		return 1;
	return (strcmp(desc->name, "output") == 0 ? 2 : 1) / sqrt(cols);
}

static int find_pool(struct synth *s, enum ds_dtype dtype, double deviation, const struct pool **out,
		     struct ds_error *err)
{
	const struct ds_dtype_info *info = ds_dtype_info(dtype);
	struct pool *p = &s->pools[s->n_pools];

	for (unsigned i = 0; i < s->n_pools; i++)
		if (s->pools[i].dtype == dtype && s->pools[i].deviation == deviation) {
			*out = &s->pools[i];
			return 0;
		}
	if (s->n_pools == DS_ARRAY_SIZE(s->pools))
		return ds_fail(err, -E2BIG, "more than %zu kinds of tensors", DS_ARRAY_SIZE(s->pools));
	*p = (struct pool){dtype, deviation, info->block > 1 ? info->block : UNIT_OF_FLOATS, 0, NULL};
	p->size = (uint32_t)ds_row_size(dtype, p->elements);
	p->units = malloc((size_t)POOL * p->size);
	if (!p->units)
		return ds_fail(err, -ENOMEM, "no memory for random weights");
	s->n_pools++;
	for (unsigned i = 0; i < POOL; i++) {
		float x[256];

		for (uint32_t e = 0; e < p->elements; e++)
			x[e] = (float)(deviation * next_normal(s));
		ds_quantize_row(p->units + (size_t)i * p->size, x, dtype, p->elements);
	}
	*out = p;
	return 0;
}

static enum ds_dtype dtype_of(const struct synth *s, const struct ds_tensor_desc *desc)
{
	return ds_mix_type(s->mix, &s->preset->hparams, desc->name, desc->n_dims, desc->shape[desc->n_dims - 1], false);
}

/* First pass: tell the writer. */
static int announce(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct synth *s = self;
	uint64_t ne[DS_MAX_DIMS];
	char name[128];

	if (!ds_gguf_tensor_name(name, sizeof(name), desc->name))
		return ds_fail(err, -EINVAL, "%s has no name in GGUF", desc->name);
	for (uint32_t d = 0; d < desc->n_dims; d++)
		ne[d] = desc->shape[desc->n_dims - 1 - d];
	ds_gguf_writer_tensor(s->writer, name, dtype_of(s, desc), desc->n_dims, ne);
	s->n++;
	return 0;
}

static int write_at(struct synth *s, const void *data, size_t size, uint64_t offset, struct ds_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(s->fd, (const char *)data + done, size - done, (off_t)(offset + done));

		if (n <= 0)
			return ds_fail(err, -EIO, "the file cannot be written: %s", strerror(n < 0 ? errno : EIO));
		done += (size_t)n;
	}
	return 0;
}

/* Norms around 1, biases around 0. */
static int write_vector(struct synth *s, const struct ds_tensor_desc *desc, uint64_t offset, struct ds_error *err)
{
	float *x = (float *)(void *)s->buffer;
	bool norm = strstr(desc->name, "norm");

	if (desc->shape[0] * sizeof(*x) > BUFFER)
		return ds_fail(err, -E2BIG, "%s is too long", desc->name);
	for (uint64_t i = 0; i < desc->shape[0]; i++)
		x[i] = (float)((norm ? 1 : 0) + 0.05 * next_normal(s));
	return write_at(s, x, desc->shape[0] * sizeof(*x), offset, err);
}

/* Second pass: draw units until the tensor is full. */
static int fill(void *self, const struct ds_tensor_desc *desc, struct ds_error *err)
{
	struct synth *s = self;
	uint64_t offset = ds_gguf_writer_offset(s->writer, s->n++), elements = 1, n;
	const struct pool *p;
	int r;

	if (desc->n_dims == 1)
		return write_vector(s, desc, offset, err);
	r = find_pool(s, dtype_of(s, desc), deviation_of(desc), &p, err);
	if (r < 0)
		return r;
	for (uint32_t d = 0; d < desc->n_dims; d++)
		elements *= desc->shape[d];
	for (n = elements / p->elements; r == 0 && n > 0;) {
		uint64_t now = BUFFER / p->size < n ? BUFFER / p->size : n;

		for (uint64_t i = 0; i < now; i++)
			memcpy(s->buffer + i * p->size, p->units + (size_t)(next_random(s) % POOL) * p->size, p->size);
		r = write_at(s, s->buffer, now * p->size, offset, err);
		offset += now * p->size;
		n -= now;
	}
	return r;
}

static int put_keys(struct synth *s, bool joint, struct ds_error *err)
{
	ds_cleanup(synth_words_freep) struct synth_words *words = NULL;
	const struct ds_hparams *h = &s->preset->hparams;
	struct ds_vocabulary vocabulary;
	int r = synth_words_new(&words, &vocabulary, h->vocab, err);

	if (r < 0)
		return r;
	ds_gguf_writer_text(s->writer, NULL, "general.architecture", ds_gguf_architecture(h));
	ds_gguf_writer_text(s->writer, NULL, "general.type", "model");
	ds_gguf_writer_text(s->writer, NULL, "general.name", s->preset->name);
	ds_gguf_writer_u32(s->writer, NULL, "general.file_type", s->mix->file_type);
	ds_gguf_writer_u32(s->writer, NULL, "general.quantization_version", 2);
	ds_gguf_put_hparams(s->writer, h, joint);
	ds_gguf_writer_text(s->writer, NULL, "tokenizer.chat_template", TEMPLATE);
	return ds_gguf_put_vocabulary(s->writer, &vocabulary, s->preset->pre, h->vocab, err);
}

static int run(struct synth *s, bool joint, struct ds_error *err)
{
	const struct ds_hparams *h = &s->preset->hparams;
	float divisors[DS_MAX_ROPE_PAIRS];
	bool has_divisors = ds_gguf_rope_divisors(h, divisors);
	int r = put_keys(s, joint, err);

	if (r == 0)
		r = synth_each_tensor(h, joint, announce, s, err);
	if (r == 0 && has_divisors)
		ds_gguf_writer_tensor(s->writer, "rope_freqs.weight", DS_DTYPE_F32, 1, &(uint64_t){h->head_dim / 2});
	if (r == 0)
		r = ds_gguf_writer_layout(s->writer, err);
	if (r == 0 && ftruncate(s->fd, (off_t)ds_gguf_writer_size(s->writer)) < 0)
		r = ds_fail(err, -errno, "the file cannot be written: %s", strerror(errno));
	if (r == 0)
		r = ds_gguf_writer_write(s->writer, s->fd, err);
	s->n = 0;
	if (r == 0)
		r = synth_each_tensor(h, joint, fill, s, err);
	if (r == 0 && has_divisors)
		r = write_at(s, divisors, h->head_dim / 2 * sizeof(*divisors), ds_gguf_writer_offset(s->writer, s->n),
			     err);
	return r;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: synth-model PRESET FILE [TYPE] [joint]\n"
		"TYPE is a mix of dsctl quantize (q4_k_m); joint: attn_kv_b in one, for programs from before its "
		"division\nPresets:\n");
	synth_preset_list(stderr);
	return 2;
}

int main(int argc, char **argv)
{
	ds_cleanup(ds_closep) int fd = -1;
	struct synth s = {.state = 42};
	struct ds_error err = {""};
	int r;

	if (argc < 3 || argc > 5)
		return usage();
	s.preset = synth_preset_find(argv[1]);
	s.mix = ds_mix_find(argc > 3 ? argv[3] : "q4_k_m");
	if (!s.preset || !s.mix || (argc > 4 && strcmp(argv[4], "joint") != 0))
		return usage();
	s.buffer = malloc(BUFFER);
	s.fd = fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || !s.buffer)
		r = ds_fail(&err, -EIO, "%s: %s", argv[2], strerror(errno));
	else
		r = ds_gguf_writer_new(&s.writer, &err);
	if (r == 0)
		r = run(&s, argc > 4, &err);
	if (r < 0)
		fprintf(stderr, "synth-model: %s\n", err.text);
	ds_gguf_writer_free(s.writer);
	for (unsigned i = 0; i < s.n_pools; i++)
		free(s.pools[i].units);
	free(s.buffer);
	return r < 0;
}

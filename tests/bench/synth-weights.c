/* synth-weights.c - see synth-weights.h. */
#include "synth-weights.h"

#include "quantize.h"

#include <math.h>
#include <string.h>

#define POOL 1024         /* units of a pool */
#define BUFFER (4u << 20) /* bytes written at a time */
#define UNIT_OF_FLOATS 32 /* elements of a unit where blocks are single elements */

/* Units of one type and deviation, to draw from. */
struct pool {
	enum ds_dtype dtype;
	double deviation;
	uint32_t elements, size; /* of a unit */
	uint8_t *units;          /* [POOL] */
};

struct synth_weights {
	int fd;
	uint64_t state;
	struct pool pools[64];
	unsigned n_pools;
	uint8_t *buffer;
};

int synth_weights_new(struct synth_weights **out, int fd, struct ds_error *err)
{
	struct synth_weights *s = calloc(1, sizeof(*s));

	if (s)
		s->buffer = malloc(BUFFER);
	if (!s || !s->buffer) {
		free(s);
		return ds_fail(err, -ENOMEM, "no memory for random weights");
	}
	s->fd = fd;
	s->state = 42;
	*out = s;
	return 0;
}

struct synth_weights *synth_weights_free(struct synth_weights *s)
{
	for (unsigned i = 0; s && i < s->n_pools; i++)
		free(s->pools[i].units);
	if (s)
		free(s->buffer);
	free(s);
	return NULL;
}

static uint32_t next_random(struct synth_weights *s)
{
	s->state = s->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(s->state >> 33);
}

static double next_normal(struct synth_weights *s)
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

static int find_pool(struct synth_weights *s, enum ds_dtype dtype, double deviation, const struct pool **out,
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

int synth_write_at(int fd, const void *data, size_t size, uint64_t offset, struct ds_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, (const char *)data + done, size - done, (off_t)(offset + done));

		if (n <= 0)
			return ds_fail(err, -EIO, "the file cannot be written: %s", strerror(n < 0 ? errno : EIO));
		done += (size_t)n;
	}
	return 0;
}

/* Norms around 1, biases around 0. */
static int write_vector(struct synth_weights *s, const struct ds_tensor_desc *desc, enum ds_dtype dtype,
			uint64_t offset, struct ds_error *err)
{
	float *x = (float *)(void *)s->buffer;
	bool norm = strstr(desc->name, "norm");

	if (desc->shape[0] * sizeof(*x) > BUFFER)
		return ds_fail(err, -E2BIG, "%s is too long", desc->name);
	for (uint64_t i = 0; i < desc->shape[0]; i++)
		x[i] = (float)((norm ? 1 : 0) + 0.05 * next_normal(s));
	ds_quantize_row(x, x, dtype, desc->shape[0]); /* in place: no float type is wider */
	return synth_write_at(s->fd, x, ds_row_size(dtype, desc->shape[0]), offset, err);
}

/* Draw units until the tensor is full. */
int synth_weights_write(struct synth_weights *s, const struct ds_tensor_desc *desc, enum ds_dtype dtype,
			uint64_t offset, struct ds_error *err)
{
	uint64_t elements = 1, n;
	const struct pool *p;
	int r;

	if (desc->n_dims == 1)
		return write_vector(s, desc, dtype, offset, err);
	r = find_pool(s, dtype, deviation_of(desc), &p, err);
	if (r < 0)
		return r;
	for (uint32_t d = 0; d < desc->n_dims; d++)
		elements *= desc->shape[d];
	for (n = elements / p->elements; r == 0 && n > 0;) {
		uint64_t now = BUFFER / p->size < n ? BUFFER / p->size : n;

		for (uint64_t i = 0; i < now; i++)
			memcpy(s->buffer + i * p->size, p->units + (size_t)(next_random(s) % POOL) * p->size, p->size);
		r = synth_write_at(s->fd, s->buffer, now * p->size, offset, err);
		offset += now * p->size;
		n -= now;
	}
	return r;
}

/* vectors-kinds.h - how the vectors of each kind are run, and what the five files share. Only lib/vectors*.c see this.
 *
 * A runner reads the input, calls the operations and says everything that came out as one JSON object; vectors.c
 * compares the keys that the vector expects. A runner that cannot go on fails with a sentence. */
#pragma once

#include <deepseekd/plugin.h>
#include <jansson.h>

struct ds_vector_case {
	const struct ds_host *host;
	const struct ds_plugin *plugin;
	const struct ds_entry *entry;
	const json_t *input;
};

typedef int ds_vector_runner(const struct ds_vector_case *c, json_t **got, struct ds_error *err);

ds_vector_runner ds_vector_format;
ds_vector_runner ds_vector_tokenizer;
ds_vector_runner ds_vector_backend;
ds_vector_runner ds_vector_sampler;
ds_vector_runner ds_vector_dialect;

/* Numbers in nested arrays, row-major. */
struct ds_vector_numbers {
	double *data; /* [count] */
	size_t count;
	unsigned n_dims;
	uint64_t shape[4]; /* unused ones are 1 */
};

/* Fail unless every key of @object is among @keys, which ends with NULL. */
int ds_vector_keys(const json_t *object, const char *const *keys, struct ds_error *err);
#define DS_VECTOR_KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The numbers under @key of @object, in arrays nested @n_dims deep, all of one shape; null is minus infinity. */
int ds_vector_numbers(const json_t *object, const char *key, unsigned n_dims, struct ds_vector_numbers *out,
		      struct ds_error *err);

/* The same as float or as uint32_t (whole, in range), from malloc, with room for at least one. */
float *ds_vector_floats(const struct ds_vector_numbers *numbers);
int ds_vector_u32(const json_t *object, const char *key, unsigned n_dims, uint32_t **out, size_t *count,
		  struct ds_error *err);

/* An array of the @n values as JSON; what is not finite is null. */
json_t *ds_vector_from_floats(const float *values, size_t n);
json_t *ds_vector_from_u32(const uint32_t *values, size_t n);

static inline void ds_vector_numbers_deinit(struct ds_vector_numbers *n)
{
	free(n->data);
}

/* ids.c - the tokens of a text while they are found: the list grows by doubling and is capped. */
#include "common.h"

static int too_many(const struct ds_ids *ids, struct ds_error *err)
{
	return ds_fail(err, -E2BIG, "the text has more than %zu tokens", ids->max);
}

int ds_ids_reserve(struct ds_ids *ids, size_t n, struct ds_error *err)
{
	size_t capacity = ids->capacity ? ids->capacity : 256;
	uint32_t *grown;

	if (ids->n > ids->max)
		return too_many(ids, err);
	if (ids->n + n <= ids->capacity)
		return 0;
	while (capacity < ids->n + n)
		capacity *= 2;
	grown = realloc(ids->ids, capacity * sizeof(*grown));
	if (!grown)
		return ds_fail(err, -ENOMEM, "no memory for %zu tokens", ids->n + n);
	ids->ids = grown;
	ids->capacity = capacity;
	return 0;
}

/* The caller's array is only ever exactly as large as it has to be. */
int ds_ids_hand_over(const struct ds_ids *ids, const struct ds_host *host, uint32_t **out, size_t *n_out,
		     struct ds_error *err)
{
	uint32_t *all;

	if (ids->n > ids->max)
		return too_many(ids, err);
	if (ids->n == 0)
		return 0;
	all = host->alloc((*n_out + ids->n) * sizeof(*all));
	if (!all)
		return ds_fail(err, -ENOMEM, "no memory for %zu tokens", *n_out + ids->n);
	if (*n_out > 0)
		memcpy(all, *out, *n_out * sizeof(*all));
	memcpy(all + *n_out, ids->ids, ids->n * sizeof(*all));
	host->free(*out);
	*out = all;
	*n_out += ids->n;
	return 0;
}

/* work.c - every tensor of the image counts once, but for experts that are not chosen and embeddings that are not looked
 * up. */
#include "work.h"

#include <string.h>

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static uint64_t count_elements(const struct ds_image_tensor *t)
{
	uint64_t n = 1;

	for (uint32_t i = 0; i < t->n_dims; i++)
		n *= t->shape[i];
	return n;
}

/* Of a stack of experts a row goes through those that are chosen for it. */
static uint64_t share_of_row(const struct ds_image_tensor *t, const struct ds_hparams *h, uint64_t all)
{
	const char *last = strrchr(t->name, '.');

	return h->n_experts > 0 && last && begins(last, ".experts_") ? all / h->n_experts * h->n_experts_used : all;
}

struct ds_work ds_work_count(const struct ds_image *image)
{
	uint64_t elements[DS_N_DTYPES] = {0};
	const struct ds_hparams *h = ds_image_hparams(image);
	bool is_tied = !ds_image_tensor(image, "output");
	struct ds_work work = {.dtype = DS_DTYPE_F32};
	uint32_t n;
	const struct ds_image_tensor *tensors = ds_image_tensors(image, &n);

	for (uint32_t i = 0; i < n; i++) {
		const struct ds_image_tensor *t = &tensors[i];
		uint64_t used = share_of_row(t, h, count_elements(t));
		bool is_embedding = strcmp(t->name, "token_embedding") == 0;

		if (is_embedding)
			work.embedding_size = t->size / h->vocab;
		if (begins(t->name, "mtp.") || (is_embedding && !is_tied))
			continue;
		work.size += share_of_row(t, h, t->size);
		if (t->n_dims < 2)
			continue;
		if (is_embedding || strcmp(t->name, "output") == 0)
			work.output_parameters += used;
		else
			work.parameters += used;
		elements[t->dtype] += used;
		if (elements[t->dtype] > elements[work.dtype])
			work.dtype = t->dtype;
	}
	return work;
}

/* bind.c - the table of architectures, and what they share when they bind an image: tensors by name, memory. */
#include "arch.h"

#include <string.h>

static const struct ds_arch *const architectures[] = {
	&ds_arch_deepseek,
	&ds_arch_llama,
};

const struct ds_arch *ds_arch_find(const struct ds_hparams *hparams, struct ds_error *err)
{
	size_t size = sizeof(hparams->architecture);

	for (size_t i = 0; i < DS_ARRAY_SIZE(architectures); i++)
		if (strncmp(hparams->architecture, architectures[i]->name, size) == 0)
			return architectures[i]->check(hparams, err) < 0 ? NULL : architectures[i];
	ds_fail(err, -ENOTSUP, "architecture %.*s is not one that this engine knows", (int)size, hparams->architecture);
	return NULL;
}

static void shape_text(char *out, size_t size, const uint64_t *shape, uint32_t n_dims)
{
	size_t n = 0;

	for (uint32_t i = 0; i < n_dims && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
}

/* The layout in the image must be the one that this backend, at this precision, would choose; what lies in files has the
 * rows of the checkpoint. */
static int check_layout(const struct ds_bind *bind, const struct ds_image_tensor *tensor)
{
	struct ds_tensor_desc desc = {.name = tensor->name, .dtype = tensor->dtype, .n_dims = tensor->n_dims};
	struct ds_layout layout = {0};
	uint64_t n = 1;
	int r;

	memcpy(desc.shape, tensor->shape, sizeof(desc.shape));
	for (uint32_t i = 0; i < tensor->n_dims; i++)
		n *= tensor->shape[i];
	if (tensor->n_dims == 1 || tensor->n_places > 0) {
		uint64_t cols = tensor->shape[tensor->n_dims - 1];

		layout.size = n / cols * ds_row_size(tensor->dtype, cols);
	} else {
		r = bind->setup->ops->plan(&desc, bind->setup->precision, &layout, bind->err);
		if (r < 0)
			return r;
	}
	if (tensor->layout != layout.id || tensor->size != layout.size)
		return ds_fail(bind->err, -EINVAL,
			       "tensor %s has layout %u and %llu bytes in the image, the backend wants layout %u and %llu",
			       tensor->name, tensor->layout, (unsigned long long)tensor->size, layout.id,
			       (unsigned long long)layout.size);
	return 0;
}

static int check_shape(const struct ds_bind *bind, const struct ds_image_tensor *tensor, const uint64_t *shape,
		       uint32_t n_dims)
{
	char want[96], have[96];

	if (tensor->n_dims == n_dims && memcmp(tensor->shape, shape, n_dims * sizeof(*shape)) == 0)
		return 0;
	shape_text(want, sizeof(want), shape, n_dims);
	shape_text(have, sizeof(have), tensor->shape, tensor->n_dims > DS_MAX_DIMS ? DS_MAX_DIMS : tensor->n_dims);
	return ds_fail(bind->err, -EINVAL, "tensor %s has shape (%s), the hyperparameters ask for (%s)", tensor->name, have,
		       want);
}

static int bind_weight(const struct ds_bind *bind, struct ds_weight *weight, const char *name)
{
	const struct ds_image_tensor *tensor = ds_image_tensor(bind->setup->image, name);
	uint64_t shape[3];
	uint32_t n_dims = 0;
	int r;

	if (!tensor)
		return ds_fail(bind->err, -EINVAL, "the image has no tensor %s", name);
	if (weight->n_experts > 0)
		shape[n_dims++] = weight->n_experts;
	shape[n_dims++] = weight->rows;
	if (weight->cols > 0)
		shape[n_dims++] = weight->cols;
	r = check_shape(bind, tensor, shape, n_dims);
	if (r < 0)
		return r;
	if (tensor->dtype != DS_DTYPE_F32 && tensor->n_dims == 1)
		return ds_fail(bind->err, -EINVAL, "tensor %s has type %u, which is not one it may have", name,
			       tensor->dtype);
	r = check_layout(bind, tensor);
	if (r < 0)
		return r;
	weight->data = ds_image_tensor_data(bind->setup->image, tensor, &weight->matrices);
	if (!weight->data)
		return ds_fail(bind->err, -EINVAL, "tensor %s lies in a file that is not mapped", name);
	weight->dtype = tensor->dtype;
	weight->layout = tensor->layout;
	weight->fast = bind->setup->precision == DS_PRECISION_FAST;
	if (weight->n_experts == 0)
		weight->n_experts = 1;
	return 0;
}

void ds_bind_weight(struct ds_bind *bind, struct ds_weight *weight, uint64_t n_experts, uint64_t rows, uint64_t cols,
		    const char *name, ...)
{
	char full[DS_IMAGE_NAME_MAX];
	va_list args;

	if (bind->result < 0)
		return;
	va_start(args, name);
	vsnprintf(full, sizeof(full), name, args);
	va_end(args);
	*weight = (struct ds_weight){.n_experts = n_experts, .rows = rows, .cols = cols};
	bind->result = bind_weight(bind, weight, full);
}

void ds_bind_vector(struct ds_bind *bind, const float **vector, uint64_t n, const char *name, ...)
{
	char full[DS_IMAGE_NAME_MAX];
	struct ds_weight weight = {.rows = n};
	va_list args;

	if (bind->result < 0)
		return;
	va_start(args, name);
	vsnprintf(full, sizeof(full), name, args);
	va_end(args);
	bind->result = bind_weight(bind, &weight, full);
	*vector = weight.data;
}

void ds_bind_optional_vector(struct ds_bind *bind, const float **vector, uint64_t n, const char *name, ...)
{
	char full[DS_IMAGE_NAME_MAX];
	va_list args;

	va_start(args, name);
	vsnprintf(full, sizeof(full), name, args);
	va_end(args);
	if (ds_image_tensor(bind->setup->image, full))
		ds_bind_vector(bind, vector, n, "%s", full);
}

void *ds_bind_alloc(struct ds_bind *bind, uint64_t n, uint64_t width, uint64_t element_size)
{
	uint64_t size;
	void *p;

	if (bind->result < 0)
		return NULL;
	if (__builtin_mul_overflow(n, width, &size) || __builtin_mul_overflow(size, element_size, &size))
		p = NULL;
	else
		p = bind->setup->ops->alloc(bind->setup->backend, size ? size : 1);
	if (!p)
		bind->result = ds_fail(bind->err, -ENOMEM, "no memory for %llu x %llu elements of %llu bytes",
				       (unsigned long long)n, (unsigned long long)width, (unsigned long long)element_size);
	return p;
}

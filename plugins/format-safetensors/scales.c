/* scales.c - DeepSeek's FP8: matrices of e4m3 with a F32 scale for each tile, in a tensor of their own.
 *
 *   quantization_config   {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [rows, columns of a tile]}
 *   X.weight              F8_E4M3 [out, in]
 *   X.weight_scale_inv    F32 [out / rows, in / columns, both rounded up]: what elements are multiplied by, for all its
 * name
 *
 * How activations were quantised in training (activation_scheme) changes no weight. */
#include "checkpoint.h"

#define FILE_NAME "config.json"
#define MAX_TILE (1 << 20)

static int read_tiles(struct ds_checkpoint *c, const json_t *quantization, struct ds_error *err)
{
	uint32_t *const sizes[] = {&c->tile_rows, &c->tile_cols};
	const json_t *list = NULL;
	int r = ds_json_array(&list, quantization, FILE_NAME, "weight_block_size", err);

	if (r < 0)
		return r;
	if (json_array_size(list) != DS_ARRAY_SIZE(sizes))
		return ds_fail(err, list ? -EINVAL : -ENOTSUP,
			       FILE_NAME ": quantization_config.weight_block_size should be a list of two numbers");
	for (size_t i = 0; i < DS_ARRAY_SIZE(sizes); i++) {
		json_int_t size = json_integer_value(json_array_get(list, i));

		if (size < 1 || size > MAX_TILE)
			return ds_fail(err, -EINVAL,
				       FILE_NAME
				       ": quantization_config.weight_block_size[%zu] should be a whole number "
				       "from 1 to %d",
				       i, MAX_TILE);
		*sizes[i] = (uint32_t)size;
	}
	return 0;
}

int ds_scales_read(struct ds_checkpoint *c, struct ds_error *err)
{
	const char *method = "(none)", *fmt = "e4m3";
	const json_t *quantization = NULL;
	int r = ds_json_object(&quantization, c->config, FILE_NAME, "quantization_config", err);

	if (r < 0 || !quantization)
		return r;
	r = ds_json_string(&method, quantization, FILE_NAME, "quant_method", err);
	if (r < 0)
		return r;
	r = ds_json_string(&fmt, quantization, FILE_NAME, "fmt", err);
	if (r < 0)
		return r;
	if (strcmp(method, "fp8") != 0 || strcmp(fmt, "e4m3") != 0)
		return ds_fail(err, -ENOTSUP,
			       FILE_NAME ": quantization_config: quant_method %s with fmt %s is not supported "
					 "(supported: fp8 with e4m3)",
			       ds_shown(method).text, ds_shown(fmt).text);
	return read_tiles(c, quantization, err);
}

enum ds_dtype ds_scales_dtype(const struct ds_checkpoint *c)
{
	/* a block of the image has one scale: it must not straddle tiles */
	return c->tile_cols % ds_dtype_info(DS_DTYPE_FP8)->block ? DS_DTYPE_F32 : DS_DTYPE_FP8;
}

int ds_scales_find(struct ds_scales *out, const struct ds_checkpoint *c, const struct ds_stored *t,
		   struct ds_error *err)
{
	const char *file = c->files[t->file].name;
	uint64_t n_rows, n_cols;
	const struct ds_stored *s;
	char name[192];

	if (c->tile_rows == 0)
		return ds_fail(err, -EINVAL,
			       "%.64s: tensor %s has type %s, but " FILE_NAME " has no quantization_config",
			       ds_shown(file).text, t->name, t->element->name);
	snprintf(name, sizeof(name), "%s_scale_inv", t->name);
	s = ds_shards_find(c, name);
	if (!s)
		return ds_fail(err, -EINVAL, "tensor %s is missing from the .safetensors files", name);
	if (s->element->dtype != DS_DTYPE_F32)
		return ds_fail(err, -ENOTSUP, "%.64s: tensor %s has type %s, supported: F32",
			       ds_shown(c->files[s->file].name).text, name, s->element->name);
	n_rows = (t->shape[0] - 1) / c->tile_rows + 1;
	n_cols = (t->shape[1] - 1) / c->tile_cols + 1;
	if (s->n_dims != 2 || s->shape[0] != n_rows || s->shape[1] != n_cols)
		return ds_fail(err, -EINVAL, "%.64s: tensor %s should have the shape [%llu, %llu]",
			       ds_shown(c->files[s->file].name).text, name, (unsigned long long)n_rows,
			       (unsigned long long)n_cols);
	*out = (struct ds_scales){
		.file = s->file,
		.offset = s->offset,
		.tile_rows = c->tile_rows,
		.tile_cols = c->tile_cols,
		.cols = t->shape[1],
	};
	return 0;
}

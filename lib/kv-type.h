/* kv-type.h - what the key kv_type of a model means. */
#pragma once

#include <deepseekd/backend.h>

#include <string.h>

/* The type that a KV cache called @name has: with exact precision F32, whatever it is called. 0: no cache is called so (or
 * @name is NULL). */
static inline enum ds_dtype ds_kv_dtype(enum ds_precision precision, const char *name)
{
	static const struct {
		const char *name;
		enum ds_dtype dtype;
	} types[] = {
		{"f32", DS_DTYPE_F32},
		{"f16", DS_DTYPE_F16},
		{"bf16", DS_DTYPE_BF16},
		{"q8_0", DS_DTYPE_Q8_0},
	};

	for (size_t i = 0; name && i < DS_ARRAY_SIZE(types); i++)
		if (strcmp(types[i].name, name) == 0)
			return precision == DS_PRECISION_EXACT ? DS_DTYPE_F32 : types[i].dtype;
	return (enum ds_dtype)0;
}

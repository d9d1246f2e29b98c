/* types.c - the types that tensors of a GGUF file have, by their number in the file. */
#include "gguf.h"

static const struct ds_gguf_type types[] = {
	{0, "F32", 1, 4, DS_DTYPE_F32},
	{1, "F16", 1, 2, DS_DTYPE_F16},
	{2, "Q4_0", 32, 18, DS_DTYPE_Q4_0},
	{3, "Q4_1", 32, 20, DS_DTYPE_Q4_1},
	{6, "Q5_0", 32, 22, DS_DTYPE_Q5_0},
	{7, "Q5_1", 32, 24, DS_DTYPE_Q5_1},
	{8, "Q8_0", 32, 34, DS_DTYPE_Q8_0},
	{9, "Q8_1", 32, 36, 0},
	{10, "Q2_K", 256, 84, DS_DTYPE_Q2_K},
	{11, "Q3_K", 256, 110, DS_DTYPE_Q3_K},
	{12, "Q4_K", 256, 144, DS_DTYPE_Q4_K},
	{13, "Q5_K", 256, 176, DS_DTYPE_Q5_K},
	{14, "Q6_K", 256, 210, DS_DTYPE_Q6_K},
	{15, "Q8_K", 256, 292, 0},
	{16, "IQ2_XXS", 256, 66, 0},
	{17, "IQ2_XS", 256, 74, 0},
	{18, "IQ3_XXS", 256, 98, 0},
	{19, "IQ1_S", 256, 50, 0},
	{20, "IQ4_NL", 32, 18, DS_DTYPE_IQ4_NL},
	{21, "IQ3_S", 256, 110, 0},
	{22, "IQ2_S", 256, 82, 0},
	{23, "IQ4_XS", 256, 136, DS_DTYPE_IQ4_XS},
	{24, "I8", 1, 1, 0},
	{25, "I16", 1, 2, 0},
	{26, "I32", 1, 4, 0},
	{27, "I64", 1, 8, 0},
	{28, "F64", 1, 8, 0},
	{29, "IQ1_M", 256, 56, 0},
	{30, "BF16", 1, 2, DS_DTYPE_BF16},
	{34, "TQ1_0", 256, 54, 0},
	{35, "TQ2_0", 256, 66, 0},
	{39, "MXFP4", 32, 17, DS_DTYPE_MXFP4},
};

/* Numbers without a type that could be read: whose they are. */
static const struct {
	uint32_t first, last;
	const char *whose;
} others[] = {
	{4, 5, "was withdrawn from the format"},   {31, 33, "was withdrawn from the format"},
	{36, 38, "was withdrawn from the format"}, {40, 40, "is NVFP4"},
	{97, 158, "is private to ik_llama.cpp"},   {202, 399, "is private to ik_llama.cpp"},
};

const struct ds_gguf_type *ds_gguf_type(uint32_t id)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(types); i++)
		if (types[i].id == id)
			return &types[i];
	return NULL;
}

int ds_gguf_refuse_type(uint32_t id, const struct ds_file *file, const char *tensor, struct ds_error *err)
{
	const struct ds_gguf_type *type = ds_gguf_type(id);
	const char *whose = "is unknown";
	char name[48], supported[160];
	size_t n = 0;

	for (size_t i = 0; i < DS_ARRAY_SIZE(others); i++)
		if (id >= others[i].first && id <= others[i].last)
			whose = others[i].whose;
	if (type)
		snprintf(name, sizeof(name), "%s", type->name);
	else
		snprintf(name, sizeof(name), "%u, which %s", id, whose);
	for (size_t i = 0; i < DS_ARRAY_SIZE(types); i++)
		if (types[i].dtype)
			n += (size_t)snprintf(supported + n, sizeof(supported) - n, "%s%s", n ? ", " : "",
					      types[i].name);
	return ds_fail(err, -ENOTSUP, "%s: tensor %s has type %s; supported: %s", ds_shown(file->name).text,
		       ds_shown(tensor).text, name, supported);
}

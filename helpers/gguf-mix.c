/* gguf-mix.c - the mixes by table: a base type, and rules for the tensors that suffer most. */
#include "gguf-mix.h"

#include <string.h>

/* Which layers get more bits than the base. */
enum share {
	ALL,
	FIRST_EIGHTH,
	FIRST_SIXTEENTH,
	FIRST_FOUR,
	FIRST_TWO,
	MORE,    /* the first and the last eighth, and every third between */
	IF_WIDE, /* all, if at least 4 heads share one of keys and values */
};

enum tensor {
	ATTENTION_VALUE = 1,
	FFN_DOWN,
	ATTENTION_OUTPUT,
};

/* The first rule that fits decides. */
struct rule {
	enum tensor tensor; /* 0: the end */
	enum share share;
	enum ds_dtype dtype;
};

static const struct mix {
	struct ds_mix mix;
	struct rule rules[5];
} mixes[] = {
	{{"q4_k_m", 15, DS_DTYPE_Q4_K}, {{ATTENTION_VALUE, MORE, DS_DTYPE_Q6_K}, {FFN_DOWN, MORE, DS_DTYPE_Q6_K}}},
	{{"q4_k_s", 14, DS_DTYPE_Q4_K},
	 {{ATTENTION_VALUE, FIRST_FOUR, DS_DTYPE_Q5_K}, {FFN_DOWN, FIRST_EIGHTH, DS_DTYPE_Q5_K}}},
	{{"q5_k_m", 17, DS_DTYPE_Q5_K}, {{ATTENTION_VALUE, MORE, DS_DTYPE_Q6_K}, {FFN_DOWN, MORE, DS_DTYPE_Q6_K}}},
	{{"q5_k_s", 16, DS_DTYPE_Q5_K}, {{0}}},
	{{"q6_k", 18, DS_DTYPE_Q6_K}, {{0}}},
	{{"q8_0", 7, DS_DTYPE_Q8_0}, {{0}}},
	{{"q4_0", 2, DS_DTYPE_Q4_0}, {{0}}},
	{{"q4_1", 3, DS_DTYPE_Q4_1}, {{0}}},
	{{"q5_0", 8, DS_DTYPE_Q5_0}, {{0}}},
	{{"q5_1", 9, DS_DTYPE_Q5_1}, {{0}}},
	{{"q2_k", 10, DS_DTYPE_Q2_K},
	 {{ATTENTION_VALUE, IF_WIDE, DS_DTYPE_Q4_K},
	  {ATTENTION_VALUE, ALL, DS_DTYPE_Q3_K},
	  {FFN_DOWN, ALL, DS_DTYPE_Q3_K},
	  {ATTENTION_OUTPUT, ALL, DS_DTYPE_Q3_K}}},
	{{"q3_k_s", 11, DS_DTYPE_Q3_K}, {{0}}},
	{{"q3_k_m", 12, DS_DTYPE_Q3_K},
	 {{ATTENTION_VALUE, FIRST_TWO, DS_DTYPE_Q5_K},
	  {ATTENTION_VALUE, ALL, DS_DTYPE_Q4_K},
	  {FFN_DOWN, FIRST_SIXTEENTH, DS_DTYPE_Q5_K},
	  {FFN_DOWN, ALL, DS_DTYPE_Q4_K},
	  {ATTENTION_OUTPUT, ALL, DS_DTYPE_Q4_K}}},
	{{"q3_k_l", 13, DS_DTYPE_Q3_K},
	 {{ATTENTION_VALUE, ALL, DS_DTYPE_Q5_K},
	  {FFN_DOWN, ALL, DS_DTYPE_Q5_K},
	  {ATTENTION_OUTPUT, ALL, DS_DTYPE_Q5_K}}},
	{{"iq4_nl", 25, DS_DTYPE_IQ4_NL},
	 {{ATTENTION_VALUE, IF_WIDE, DS_DTYPE_Q5_K}, {FFN_DOWN, FIRST_EIGHTH, DS_DTYPE_Q5_K}}},
	{{"iq4_xs", 30, DS_DTYPE_IQ4_XS},
	 {{ATTENTION_VALUE, IF_WIDE, DS_DTYPE_Q5_K}, {FFN_DOWN, FIRST_EIGHTH, DS_DTYPE_Q5_K}}},
	{{"f16", 1, DS_DTYPE_F16}, {{0}}},
	{{"bf16", 32, DS_DTYPE_BF16}, {{0}}},
	{{"f32", 0, DS_DTYPE_F32}, {{0}}},
};

/* Canonical names, without their layer, of the tensors that rules speak of. */
static const struct {
	const char *name;
	enum tensor tensor;
} names[] = {
	{"v", ATTENTION_VALUE},
	{"ffn_down", FFN_DOWN},
	{"experts_down", FFN_DOWN},
	{"shared_down", FFN_DOWN},
	{"attention_output", ATTENTION_OUTPUT},
};

const struct ds_mix *ds_mix_find(const char *name)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(mixes); i++)
		if (strcasecmp(mixes[i].mix.name, name) == 0)
			return &mixes[i].mix;
	return NULL;
}

const char *ds_mix_names(char *text, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < DS_ARRAY_SIZE(mixes) && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", mixes[i].mix.name);
	return text;
}

static bool holds(enum share share, const struct ds_hparams *h, uint32_t layer)
{
	uint32_t n = h->n_layers, eighth = n / 8;

	switch (share) {
	case FIRST_EIGHTH:
		return layer < eighth;
	case FIRST_SIXTEENTH:
		return layer < n / 16;
	case FIRST_FOUR:
		return layer < 4;
	case FIRST_TWO:
		return layer < 2;
	case MORE:
		return layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
	case IF_WIDE:
		return h->n_kv_heads > 0 && h->n_heads / h->n_kv_heads >= 4;
	default:
		return true;
	}
}

/* What takes the place of a type whose blocks do not fit into a row. */
static enum ds_dtype fitting(enum ds_dtype dtype, uint64_t cols)
{
	if (cols % ds_dtype_info(dtype)->block == 0)
		return dtype;
	switch (dtype) {
	case DS_DTYPE_Q4_K:
		dtype = DS_DTYPE_Q5_0;
		break;
	case DS_DTYPE_Q5_K:
		dtype = DS_DTYPE_Q5_1;
		break;
	case DS_DTYPE_Q6_K:
		dtype = DS_DTYPE_Q8_0;
		break;
	case DS_DTYPE_Q2_K:
	case DS_DTYPE_Q3_K:
	case DS_DTYPE_IQ4_XS:
		dtype = DS_DTYPE_IQ4_NL;
		break;
	default:
		break;
	}
	return cols % ds_dtype_info(dtype)->block == 0 ? dtype : DS_DTYPE_F16;
}

static bool is_quantised(const struct ds_mix *mix)
{
	return !ds_dtype_is_float(mix->base);
}

static enum ds_dtype by_rules(const struct mix *m, const struct ds_hparams *h, const char *name)
{
	unsigned layer = 0;
	int start = 0;

	if (sscanf(name, "layers.%u.%n", &layer, &start) < 1 || start == 0)
		return m->mix.base;
	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++) {
		if (strcmp(names[i].name, name + start) != 0)
			continue;
		for (const struct rule *r = m->rules; r < m->rules + DS_ARRAY_SIZE(m->rules) && r->tensor; r++)
			if (r->tensor == names[i].tensor && holds(r->share, h, layer))
				return r->dtype;
	}
	return m->mix.base;
}

/* Llama's 70B shares each head of values among 8: they are few, and are given more. */
static bool has_few_values(const struct ds_hparams *h)
{
	return h->n_layers == 80 && h->n_kv_heads > 0 && h->n_heads / h->n_kv_heads == 8;
}

enum ds_dtype ds_mix_type(const struct ds_mix *mix, const struct ds_hparams *h, const char *name, uint32_t n_dims,
			  uint64_t cols, bool tied)
{
	const struct mix *m = (const struct mix *)mix; /* its first member */
	const char *last = strrchr(name, '.');
	bool output = strcmp(name, tied ? "token_embedding" : "output") == 0;
	enum ds_dtype dtype;

	last = last ? last + 1 : name;
	if (n_dims < 2 || strcmp(last, "router") == 0)
		return DS_DTYPE_F32;
	if (output && is_quantised(mix) && mix->base != DS_DTYPE_Q8_0)
		return cols % 256 ? fitting(DS_DTYPE_Q8_0, cols) : DS_DTYPE_Q6_K;
	dtype = by_rules(m, h, name);
	if (strcmp(last, "v") == 0 && has_few_values(h) && (dtype == DS_DTYPE_Q3_K || dtype == DS_DTYPE_Q4_K))
		dtype = DS_DTYPE_Q5_K;
	return fitting(dtype, cols);
}

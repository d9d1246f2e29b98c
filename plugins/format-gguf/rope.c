/* rope.c - how rotary positions are stretched beyond the length that a model was first trained with.
 *
 * Either a tensor holds a divisor for each frequency (Llama 3.1), and no key counts then; or keys name the method. */
#include "gguf.h"

#include <math.h>

static struct ds_shown file(const struct ds_gguf *g)
{
	return ds_shown(g->parts[0].source.file->name);
}

/* Read a number under its name in this architecture. */
static int number(const struct ds_gguf *g, const char *key, double min, double max, double *out, struct ds_error *err)
{
	return ds_gguf_number(&g->parts[0], ds_gguf_name(g, key).text, min, max, out, err);
}

static int read_divisors(struct ds_gguf *g, const struct ds_gguf_stored *t, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	uint64_t n_pairs = h->head_dim / 2;
	char bytes[DS_MAX_ROPE_PAIRS * 4];
	int r;

	if (n_pairs > DS_MAX_ROPE_PAIRS)
		return ds_fail(err, -ENOTSUP, "%s: tensor %s: more than %d frequencies are not supported", file(g).text,
			       t->name, DS_MAX_ROPE_PAIRS);
	if (t->type->dtype != DS_DTYPE_F32 || t->size != n_pairs * 4)
		return ds_fail(err, -EINVAL, "%s: tensor %s should be %" PRIu64 " numbers of type F32", file(g).text,
			       t->name, n_pairs);
	r = ds_file_read(&g->files[t->file], t->offset, bytes, t->size, err);
	if (r < 0)
		return r;
	h->rope_scaling = DS_ROPE_DIVISORS;
	for (uint64_t i = 0; i < n_pairs; i++) {
		uint32_t word = ds_gguf_u32(bytes + 4 * i);

		memcpy(&h->rope_divisors[i], &word, sizeof(word));
		if (!(h->rope_divisors[i] > 0 && h->rope_divisors[i] <= 1e6f))
			return ds_fail(err, -EINVAL, "%s: tensor %s: number %" PRIu64 " is %g, allowed: above 0 to 1e6",
				       file(g).text, t->name, i, (double)h->rope_divisors[i]);
	}
	return 0;
}

/* DeepSeek's magnitude: the file has 0.1 * mscale_all_dim, rounded to float; the decimal it came from is wanted. */
static int read_mla_magnitude(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	/* files older than the key: V2 and V2-Lite were trained with 0.707, V3 with 1 */
	double multiplier = h->expert_scoring == DS_SCORING_SIGMOID ? 0.1 : 0.0707;
	int r = number(g, "rope.scaling.yarn_log_multiplier", 0, 1e6, &multiplier, err);

	if (r < 0)
		return r;
	h->rope_mscale_all_dim = (float)(round(multiplier * 1e7) / 1e6);
	h->rope_mscale = h->rope_mscale_all_dim;
	return 0;
}

/* Outside of MLA: cosines and sines are multiplied by attn_factor * (0.1 ln factor + 1). R1-0528-Qwen3-8B is meant to
 * have exactly 1 (attn_factor is the inverse), but files older than the key do not say so: in qwen3 a missing one means
 * that. */
static int read_magnitude(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	double generic = 0.1 * log(h->rope_factor) + 1, factor = g->architecture->qk_norm ? 1 / generic : 1;
	int r = number(g, "rope.scaling.attn_factor", 1e-6, 1e6, &factor, err);

	if (r == 0)
		r = number(g, "rope.scaling.yarn_attn_factor", 1e-6, 1e6, &factor, err);
	if (r < 0)
		return r;
	h->rope_magnitude = (float)(factor * generic);
	if (fabs(factor * generic - 1) < 1e-6)
		h->rope_magnitude = 1; /* the factor is a float that meant the inverse */
	return 0;
}

static int read_yarn(struct ds_gguf *g, struct ds_error *err)
{
	struct ds_hparams *h = &g->hparams;
	double fast = 32, slow = 1, extrapolation = 1;
	uint64_t original = h->context;
	int r = number(g, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, &fast, err);

	if (r == 0)
		r = number(g, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, &slow, err);
	if (r == 0)
		r = number(g, "rope.scaling.yarn_ext_factor", -1e6, 1e6, &extrapolation, err);
	if (r == 0)
		r = ds_gguf_count(&g->parts[0], ds_gguf_name(g, "rope.scaling.original_context_length").text, 1,
				  1 << 30, &original, err);
	if (r < 0)
		return r;
	if (extrapolation != 1 && extrapolation >= 0)
		return ds_fail(err, -ENOTSUP, "%s: %s is %g, supported: 1", file(g).text,
			       ds_gguf_name(g, "rope.scaling.yarn_ext_factor").text, extrapolation);
	h->rope_scaling = DS_ROPE_YARN;
	h->rope_beta_fast = (float)fast;
	h->rope_beta_slow = (float)slow;
	h->rope_original_context = (uint32_t)original;
	return g->architecture->mla ? read_mla_magnitude(g, err) : read_magnitude(g, err);
}

int ds_gguf_read_rope(struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_gguf_stored *divisors = ds_gguf_find(g, "rope_freqs.weight");
	struct ds_gguf_text type = {"linear", strlen("linear")};
	struct ds_hparams *h = &g->hparams;
	double factor = 0;
	int r;

	h->rope_scaling = DS_ROPE_PLAIN;
	h->rope_factor = 1;
	h->rope_mscale = 1;
	if (divisors && !g->architecture->mla)
		return read_divisors(g, divisors, err);
	r = ds_gguf_text(&g->parts[0], ds_gguf_name(g, "rope.scaling.type").text, &type, err);
	if (r == 0)
		r = number(g, "rope.scale_linear", 0, 1e6, &factor, err);
	if (r == 0)
		r = number(g, "rope.scaling.factor", 0, 1e6, &factor, err);
	if (r < 0 || ds_gguf_is(type, "none") || factor == 0)
		return r;
	if (factor < 1)
		return ds_fail(err, -EINVAL, "%s: %s is %g, allowed: 1 to 1e6", file(g).text,
			       ds_gguf_name(g, "rope.scaling.factor").text, factor);
	h->rope_factor = (float)factor;
	if (ds_gguf_is(type, "yarn"))
		return read_yarn(g, err);
	if (ds_gguf_is(type, "linear") && !g->architecture->mla) {
		h->rope_scaling = factor == 1 ? DS_ROPE_PLAIN : DS_ROPE_LINEAR;
		return 0;
	}
	return ds_fail(err, -ENOTSUP, "%s: %s %s is not supported (supported: none, %syarn)", file(g).text,
		       ds_gguf_name(g, "rope.scaling.type").text, ds_shown_bytes(type.text, type.size).text,
		       g->architecture->mla ? "" : "linear, ");
}

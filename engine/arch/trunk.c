/* trunk.c - the parts of a forward pass that do not depend on the kind of attention. */
#include "trunk.h"

#include "rope.h"

#include <string.h>

static const struct ds_limit limits[] = {
	DS_LIMIT(vocab, 1, DS_MAX_VOCAB),
	DS_LIMIT(hidden, 1, DS_MAX_HIDDEN),
	DS_LIMIT(n_layers, 1, DS_MAX_LAYERS),
	DS_LIMIT(n_heads, 1, DS_MAX_HEADS),
	DS_LIMIT(context, 1, DS_MAX_CONTEXT),
	DS_LIMIT(ff, 0, DS_MAX_FF),
	DS_LIMIT(rope_scaling, DS_ROPE_PLAIN, DS_ROPE_DIVISORS),
};

int ds_limits_check(const struct ds_hparams *p, const struct ds_limit *list, size_t n, struct ds_error *err)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t value;

		memcpy(&value, (const char *)p + list[i].offset, sizeof(value));
		if (value < list[i].min || value > list[i].max)
			return ds_fail(err, -EINVAL, "hyperparameter %s is %u (allowed: %u to %u)", list[i].name, value,
				       list[i].min, list[i].max);
	}
	return 0;
}

int ds_trunk_check(const struct ds_hparams *p, uint32_t rope_width, struct ds_error *err)
{
	int r = ds_limits_check(p, limits, DS_ARRAY_SIZE(limits), err);

	if (r < 0)
		return r;
	if (!(p->norm_eps > 0 && p->norm_eps < 1))
		return ds_fail(err, -EINVAL, "hyperparameter norm_eps is %g (allowed: between 0 and 1)", p->norm_eps);
	return ds_rope_check(p, rope_width, err);
}

void *ds_trunk_take(struct ds_trunk *t, struct ds_bind *bind, uint64_t n, uint64_t width, uint64_t element_size)
{
	void *p = ds_bind_alloc(bind, n, width, element_size);

	if (p)
		t->buffers[t->n_buffers++] = p;
	return p;
}

struct ds_kv ds_trunk_take_kv(struct ds_trunk *t, struct ds_bind *bind, uint32_t width)
{
	const struct ds_arch_setup *setup = bind->setup;
	struct ds_kv kv;

	if (bind->result == 0 && !ds_kv_suits(&t->p, setup->kv_dtype))
		bind->result = ds_fail(bind->err, -EINVAL, "a KV cache of %s has blocks of %u, which its heads do not fill",
				       ds_dtype_info(setup->kv_dtype)->name, ds_dtype_info(setup->kv_dtype)->block);
	kv = (struct ds_kv){
		.data = ds_trunk_take(t, bind, (uint64_t)setup->n_pages * setup->page_tokens,
				      ds_row_size(setup->kv_dtype, width), 1),
		.dtype = setup->kv_dtype,
		.page_tokens = setup->page_tokens,
		.width = width,
	};

	if (kv.data && t->n_caches < DS_ARRAY_SIZE(t->caches))
		t->caches[t->n_caches++] = kv;
	return kv;
}

static void take_activations(struct ds_trunk *t, struct ds_bind *bind, uint64_t widest)
{
	uint64_t hidden = t->p.hidden;

	t->x = ds_trunk_take(t, bind, t->max_rows, hidden, sizeof(float));
	t->u = ds_trunk_take(t, bind, t->max_rows, hidden, sizeof(float));
	t->gate = ds_trunk_take(t, bind, t->max_rows, widest, sizeof(float));
	t->up = ds_trunk_take(t, bind, t->max_rows, widest, sizeof(float));
	t->states = ds_trunk_take(t, bind, t->max_rows, hidden, sizeof(float));
	t->picked = ds_trunk_take(t, bind, bind->setup->max_logits, hidden, sizeof(float));
	t->logits = ds_trunk_take(t, bind, bind->setup->max_logits, t->p.vocab, sizeof(float));
}

static void take_frequencies(struct ds_trunk *t, struct ds_bind *bind, uint32_t rope_width)
{
	ds_cleanup(ds_freep) float *frequencies = calloc(rope_width / 2, sizeof(*frequencies));

	t->frequencies = ds_trunk_take(t, bind, 1, rope_width / 2, sizeof(float));
	if (!frequencies && bind->result == 0)
		bind->result = ds_fail(bind->err, -ENOMEM, "no memory for %u frequencies", rope_width / 2);
	if (bind->result < 0)
		return;
	ds_rope_frequencies(frequencies, &t->p, rope_width);
	t->ops->write(t->backend, t->frequencies, frequencies, rope_width / 2 * sizeof(float));
}

void ds_trunk_open(struct ds_trunk *t, struct ds_bind *bind, uint32_t rope_width, uint64_t widest)
{
	const struct ds_arch_setup *setup = bind->setup;
	const struct ds_hparams *p = &t->p;

	t->p = *ds_image_hparams(setup->image);
	t->ops = setup->ops;
	t->backend = setup->backend;
	t->max_rows = setup->max_rows;
	ds_bind_weight(bind, &t->token_embedding, 0, p->vocab, p->hidden, "token_embedding");
	ds_bind_vector(bind, &t->output_norm, p->hidden, "output_norm");
	if (ds_image_tensor(setup->image, "output"))
		ds_bind_weight(bind, &t->output, 0, p->vocab, p->hidden, "output");
	else
		t->output = t->token_embedding;
	take_activations(t, bind, widest);
	take_frequencies(t, bind, rope_width);
}

void ds_trunk_close(struct ds_trunk *t)
{
	for (unsigned i = 0; i < t->n_buffers; i++)
		t->ops->release(t->backend, t->buffers[i]);
}

void ds_swiglu_bind(struct ds_bind *bind, struct ds_swiglu *ffn, const struct ds_hparams *p, uint64_t width,
		    const char *layer, const char *kind)
{
	ds_bind_weight(bind, &ffn->gate, 0, width, p->hidden, "%s.%s_gate", layer, kind);
	ds_bind_weight(bind, &ffn->up, 0, width, p->hidden, "%s.%s_up", layer, kind);
	ds_bind_weight(bind, &ffn->down, 0, p->hidden, width, "%s.%s_down", layer, kind);
}

void ds_trunk_feed_forward(struct ds_trunk *t, const struct ds_swiglu *ffn, uint32_t n)
{
	struct ds_matmul gate_and_up[] = {
		{.y = t->gate, .x = t->u, .w = &ffn->gate, .n = n},
		{.y = t->up, .x = t->u, .w = &ffn->up, .n = n},
	};

	t->ops->matmul(t->backend, gate_and_up, DS_ARRAY_SIZE(gate_and_up));
	t->ops->swiglu(t->backend, t->gate, t->gate, t->up, n * ffn->gate.rows);
	ds_matmul_add(t, t->x, t->gate, &ffn->down, n);
}

void ds_trunk_embed(struct ds_trunk *t, const struct ds_rows *rows)
{
	t->ops->embed(t->backend, t->x, &t->token_embedding, rows->tokens, rows->n);
}

void ds_trunk_finish(struct ds_trunk *t, uint32_t n)
{
	ds_norm(t, t->states, t->x, t->output_norm, t->p.hidden, n);
	t->last_states = t->states;
	t->last_output = &t->output;
}

int ds_trunk_logits(struct ds_trunk *t, const uint32_t *indices, uint32_t n, float *logits, struct ds_error *err)
{
	t->ops->gather(t->backend, t->picked, t->last_states, indices, t->p.hidden, n);
	ds_matmul(t, t->logits, t->picked, t->last_output, n);
	t->ops->read(t->backend, logits, t->logits, (uint64_t)n * t->p.vocab * sizeof(float));
	return t->ops->sync(t->backend, err);
}

/* Uniform from -1 to 1, about what normed keys and values are: denormal or huge numbers would have a time of their own. */
static void make_noise(float *noise, size_t n)
{
	uint32_t state = 1;

	for (size_t i = 0; i < n; i++) {
		state = state * 1664525 + 1013904223;
		noise[i] = (float)(int32_t)state * 0x1p-31f;
	}
}

int ds_trunk_fill(struct ds_trunk *t, const struct ds_rows *rows, struct ds_error *err)
{
	ds_cleanup(ds_freep) float *noise = NULL;
	uint32_t width = 0;
	uint64_t size;
	float *x;
	int r;

	for (unsigned i = 0; i < t->n_caches; i++)
		width = t->caches[i].width > width ? t->caches[i].width : width;
	size = (uint64_t)rows->n * width * sizeof(*noise);
	noise = malloc(size + 1);
	x = t->ops->alloc(t->backend, size + 1);
	if (!noise || !x) {
		t->ops->release(t->backend, x);
		return ds_fail(err, -ENOMEM, "no memory for %llu bytes of noise", (unsigned long long)size);
	}
	make_noise(noise, (size_t)rows->n * width);
	t->ops->write(t->backend, x, noise, size);
	for (unsigned i = 0; i < t->n_caches; i++)
		t->ops->kv_store(t->backend, &t->caches[i], x, width, rows);
	r = t->ops->sync(t->backend, err);
	t->ops->release(t->backend, x);
	return r;
}

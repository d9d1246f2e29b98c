/* kernels-attention-portable.c - the kernels of attention in plain C: the definition of right. */
#include "kernels.h"

#include <math.h>
#include <string.h>

static void scores(const struct ds_attend *op)
{
	for (size_t t = 0; t < op->n_positions; t++) {
		const float *k = (const float *)(op->keys[t] + op->key_offset), *q = op->q;
		float *s = op->scores + t * op->n;

		memset(s, 0, op->n * sizeof(*s));
		for (size_t d = 0; d < op->key_cols; d++, q += op->n)
			for (size_t i = 0; i < op->n; i++)
				s[i] += q[i] * k[d];
	}
}

/* What is not a number is no maximum, and makes the sum none. */
static void weigh(const struct ds_attend *op)
{
	for (size_t i = 0; i < op->n; i++) {
		float top = op->top[i], sum = 0;

		for (size_t t = 0; t < op->n_positions; t++)
			top = op->scores[t * op->n + i] > top ? op->scores[t * op->n + i] : top;
		op->factor[i] = expf(op->top[i] - top);
		for (size_t t = 0; t < op->n_positions; t++) {
			float *s = &op->scores[t * op->n + i];

			*s = expf(*s - top);
			sum += *s;
		}
		op->sum[i] = op->sum[i] * op->factor[i] + sum;
		op->top[i] = top;
	}
}

static void mix(const struct ds_attend *op)
{
	for (size_t i = 0; i < op->n_queries; i++) {
		float *y = op->y[i];

		for (size_t d = 0; d < op->value_cols; d++)
			y[d] *= op->factor[i];
		for (size_t t = 0; t < op->n_positions; t++) {
			const float *v = (const float *)(op->values[t] + op->value_offset);
			float p = op->scores[t * op->n + i];

			for (size_t d = 0; d < op->value_cols; d++)
				y[d] += p * v[d];
		}
	}
}

void ds_attention_init_portable(struct ds_kernels *k)
{
	k->attend = k->attend_few =
		(struct ds_attend_kernels){.lanes = 8, .scores = scores, .weigh = weigh, .mix = mix};
}

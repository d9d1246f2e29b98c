/* kernels-simd.h - the kernels in terms of a vector of LANES floats.
 *
 * Included once by the file of each instruction set, which defines before it: LANES; the type vec; MATVEC_TILES, how
 * many rows of weights its registers hold together with 1, 2, 4 and 8 rows of activations; the small functions vec_*()
 * used here; and what kernels-blocks.h needs. vec_load_part() and its like touch n < LANES elements and read zeros for
 * the rest. */
#include "kernels.h"
#include "kernels-inline.h"

#include <math.h>

enum { TILE_ROWS = 4 }; /* most rows of weights in a tile */

static ALWAYS_INLINE vec load_up_to(const float *x, size_t n)
{
	return n >= LANES ? vec_load(x) : vec_load_part(x, n);
}

static ALWAYS_INLINE void store_up_to(float *y, vec v, size_t n)
{
	if (n >= LANES)
		vec_store(y, v);
	else
		vec_store_part(y, v, n);
}

/* Elements from @i on as float32: LANES of them when @whole, else @n < LANES. Both flags are constants where this is
 * inlined, so that a loop over whole vectors holds nothing else. */
static ALWAYS_INLINE vec load_weights(const void *w, size_t i, bool whole, size_t n, enum ds_dtype dtype)
{
	const uint16_t *narrow = (const uint16_t *)w + i;
	const float *wide = (const float *)w + i;

	if (dtype == DS_DTYPE_F32)
		return whole ? vec_load(wide) : vec_load_part(wide, n);
	if (dtype == DS_DTYPE_F16)
		return whole ? vec_load_f16(narrow) : vec_load_f16_part(narrow, n);
	return whole ? vec_load_bf16(narrow) : vec_load_bf16_part(narrow, n);
}

#include "kernels-blocks.h"

/* One step of a tile: the columns from @c, a vector of them or fewer. */
static ALWAYS_INLINE void matvec_step(const struct ds_matvec *op, const char *const *w, vec (*sum)[DS_KERNEL_ROWS],
				      size_t c, bool whole, unsigned n_rows, unsigned n, enum ds_dtype dtype)
{
	vec a[TILE_ROWS];

	UNROLL
	for (unsigned j = 0; j < n_rows; j++)
		a[j] = load_weights(w[j], c, whole, op->cols - c, dtype);
	UNROLL
	for (unsigned i = 0; i < n; i++) {
		vec x = load_weights(op->x[i], c, whole, op->cols - c, DS_DTYPE_F32);

		UNROLL
		for (unsigned j = 0; j < n_rows; j++)
			sum[j][i] = vec_fma(a[j], x, sum[j][i]);
	}
}

/* The sums of rows @r to @r + @n_rows - 1. What the next tile will read is asked for now: the processor's own
 * prefetching stops at the end of every page, which is soon in every row. */
static ALWAYS_INLINE void sum_floats(const struct ds_matvec *op, size_t r, vec (*sum)[DS_KERNEL_ROWS], unsigned n_rows,
				     unsigned n, enum ds_dtype dtype)
{
	const char *w[TILE_ROWS];
	size_t c = 0;

	UNROLL
	for (unsigned j = 0; j < n_rows; j++)
		w[j] = (const char *)op->w + (r + j) * op->pitch * ds_dtype_size(dtype);
	for (; c + LANES <= op->cols; c += LANES) {
		UNROLL
		for (unsigned j = 0; j < n_rows; j++)
			__builtin_prefetch(w[j] + (n_rows * op->pitch + c) * ds_dtype_size(dtype), 0, 2);
		matvec_step(op, w, sum, c, true, n_rows, n, dtype);
	}
	if (c < op->cols)
		matvec_step(op, w, sum, c, false, n_rows, n, dtype);
}

/* The weights' rows @r to @r + @n_rows - 1 times all @n rows of activations, sums in registers. */
static ALWAYS_INLINE void matvec_tile(const struct ds_matvec *op, size_t r, unsigned n_rows, unsigned n,
				      enum ds_dtype dtype)
{
	vec sum[TILE_ROWS][DS_KERNEL_ROWS];

	UNROLL
	for (unsigned j = 0; j < n_rows; j++) {
		UNROLL
		for (unsigned i = 0; i < n; i++)
			sum[j][i] = vec_zero();
	}
	if (ds_dtype_is_float(dtype))
		sum_floats(op, r, sum, n_rows, n, dtype);
	else
		sum_blocks(op, r, sum, n_rows, n, dtype);
	UNROLL
	for (unsigned j = 0; j < n_rows; j++) {
		UNROLL
		for (unsigned i = 0; i < n; i++) {
			float *y = op->y[i] + r + j, s = vec_sum(sum[j][i]);

			*y = op->add ? *y + s : s;
		}
	}
}

static ALWAYS_INLINE void matvec_rows(const struct ds_matvec *op, unsigned n_rows, unsigned n, enum ds_dtype dtype)
{
	size_t r = 0;

	for (; r + n_rows <= op->rows; r += n_rows)
		matvec_tile(op, r, n_rows, n, dtype);
	for (; r < op->rows; r++)
		matvec_tile(op, r, 1, n, dtype);
}

/* How many of @n rows of activations the next tiles take. */
static inline unsigned tile_of(unsigned n)
{
	return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

#define MATVEC_CASE(n_rows, n_x, dtype)                     \
	case n_x:                                           \
		matvec_rows(&part, n_rows, n_x, dtype);     \
		break;

#define DEFINE_MATVEC(name, dtype)                                                             \
	static void matvec_##name(const struct ds_matvec *op)                                  \
	{                                                                                      \
		struct ds_matvec part = *op;                                                   \
                                                                                               \
		for (unsigned done = 0; done < op->n; done += part.n) {                        \
			part.n = tile_of(op->n - done);                                        \
			for (unsigned i = 0; i < part.n; i++) {                                \
				part.x[i] = op->x[done + i];                                   \
				part.y[i] = op->y[done + i];                                   \
			}                                                                      \
			switch (part.n) {                                                      \
				MATVEC_TILES(MATVEC_CASE, dtype)                               \
			}                                                                      \
		}                                                                              \
	}

#define DEFINE_FLOATS(name, dtype)                                                             \
	DEFINE_MATVEC(name, dtype)                                                             \
                                                                                               \
	static void widen_##name(float *y, const void *x, size_t n)                            \
	{                                                                                      \
		size_t i = 0;                                                                  \
                                                                                               \
		for (; i + LANES <= n; i += LANES)                                             \
			vec_store(y + i, load_weights(x, i, true, LANES, dtype));              \
		if (i < n)                                                                     \
			vec_store_part(y + i, load_weights(x, i, false, n - i, dtype), n - i); \
	}

#define DEFINE_BLOCKS(name, dtype)                                                             \
	DEFINE_MATVEC(name, dtype)                                                             \
                                                                                               \
	static void widen_##name(float *y, const void *x, size_t n)                            \
	{                                                                                      \
		widen_blocks(y, x, n, dtype);                                                  \
	}

DEFINE_FLOATS(f32, DS_DTYPE_F32)
DEFINE_FLOATS(f16, DS_DTYPE_F16)
DEFINE_FLOATS(bf16, DS_DTYPE_BF16)
DS_BLOCK_TYPES(DEFINE_BLOCKS)

static void narrow_f16(void *y, const float *x, size_t n)
{
	uint16_t *to = y;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		vec_store_f16(to + i, vec_load(x + i));
	if (i < n)
		vec_store_f16_part(to + i, vec_load_part(x + i, n - i), n - i);
}

static void narrow_bf16(void *y, const float *x, size_t n)
{
	uint16_t *to = y;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		vec_store_bf16(to + i, vec_load(x + i));
	if (i < n)
		vec_store_bf16_part(to + i, vec_load_part(x + i, n - i), n - i);
}

static void scale_by(float *y, const float *x, const float *weight, float factor, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		vec v = vec_mul(load_up_to(x + i, n - i), vec_set(factor));

		store_up_to(y + i, vec_mul(v, load_up_to(weight + i, n - i)), n - i);
	}
}

static void scale(float *x, float factor, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		store_up_to(x + i, vec_mul(load_up_to(x + i, n - i), vec_set(factor)), n - i);
}

static void add_scaled(float *y, const float *x, float a, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		store_up_to(y + i, vec_fma(vec_set(a), load_up_to(x + i, n - i), load_up_to(y + i, n - i)), n - i);
}

/* e^x = 2^k e^r with |r| <= ln(2) / 2, where eight terms of the series leave less than the last bit. NaN stays NaN. */
static ALWAYS_INLINE vec exponential(vec x)
{
	static const float inverse_factorials[] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
	vec k, r, sum = vec_set(1 / 5040.0f);

	x = vec_max(vec_set(-150), vec_min(vec_set(150), x)); /* beyond both ends of float32 */
	k = vec_round(vec_mul(x, vec_set(0x1.715476p+0f)));
	/* ln(2) in two parts, the first so short that its products with k are exact. */
	r = vec_fma(k, vec_set(-0x1.62e4p-1f), x);
	r = vec_fma(k, vec_set(-0x1.7f7d1cp-20f), r);
	UNROLL
	for (size_t i = 0; i < DS_ARRAY_SIZE(inverse_factorials); i++)
		sum = vec_fma(sum, r, vec_set(inverse_factorials[i]));
	return vec_ldexp(sum, k);
}

static void swiglu(float *y, const float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		vec g = load_up_to(gate + i, n - i);
		vec d = vec_add(vec_set(1), exponential(vec_sub(vec_zero(), g)));

		store_up_to(y + i, vec_mul(vec_div(g, d), load_up_to(up + i, n - i)), n - i);
	}
}

#define REPLACE_BLOCKS(name, dtype)       \
	k->matvec[dtype] = matvec_##name; \
	k->widen[dtype] = widen_##name;

/* What is not here is as good in plain C, or is not where time goes. */
static void replace_kernels(struct ds_kernels *k)
{
	k->matvec[DS_DTYPE_F32] = matvec_f32;
	k->matvec[DS_DTYPE_F16] = matvec_f16;
	k->matvec[DS_DTYPE_BF16] = matvec_bf16;
	k->widen[DS_DTYPE_F32] = widen_f32;
	k->widen[DS_DTYPE_F16] = widen_f16;
	k->widen[DS_DTYPE_BF16] = widen_bf16;
	DS_BLOCK_TYPES(REPLACE_BLOCKS)
	k->narrow[DS_DTYPE_F16] = narrow_f16;
	k->narrow[DS_DTYPE_BF16] = narrow_bf16;
	k->scale_by = scale_by;
	k->scale = scale;
	k->add_scaled = add_scaled;
	k->swiglu = swiglu;
}

/* tiles-few.h - few rows of activations times the words of panels, without a tile.
 *
 * Included by tiles-simd.h. Memory is the limit, so words are read once, in order, and what follows is asked of it. Loops are
 * a few words long: code that is unrolled over a whole block fills the processor's window with work on words that are
 * here, and memory waits. */

/* The scales of one block of one vector of rows. */
struct block_scales {
	float scales[DS_PANEL], mins[DS_PANEL];
	int32_t k_scales[SPAN / DS_TILE_MIN_GROUP * DS_PANEL];
	uint32_t k_mins[SPAN / DS_TILE_MIN_GROUP / 2 * DS_PANEL];
	float d[DS_PANEL], d_min[DS_PANEL];
};

/* Of the sums of a part, which one output @o belongs to, and which group of the block sum @g is of. */
static ALWAYS_INLINE unsigned sum_of(struct shape s, unsigned o, enum ds_tile_kind kind)
{
	return s.stride * 4 < ds_tile_group(kind) ? 0 : o;
}

/* Rows of activations at once: for the sums of one or two groups a row the registers suffice, within a step. */
static ALWAYS_INLINE unsigned few_width(struct shape s, enum ds_tile_kind kind)
{
	const unsigned n_sums = sum_of(s, s.n_outputs - 1, kind) + 1;

	return n_sums <= 2 ? FEW_WIDTH : TILE_WIDTH;
}

static ALWAYS_INLINE unsigned group_of(struct shape s, unsigned part, unsigned g, enum ds_tile_kind kind)
{
	return (part_begin(s, part) + g * s.stride) * 4 / ds_tile_group(kind);
}

/* @total and the sums of @n_sums groups of row @i times their scales, which are @stride groups apart. */
static ALWAYS_INLINE ivec add_groups(ivec total, ivec (*sums)[FEW_WIDTH], unsigned i, unsigned n_sums, const int32_t *scales,
				     unsigned stride)
{
	UNROLL
	for (unsigned g = 0; g < n_sums; g++)
		total = iv_add(total, iv_mul(sums[g][i], iv_load(scales + g * stride * DS_PANEL)));
	return total;
}

/* Few rows of activations are multiplied with the words of the weights as they come from memory, in order: nothing but
 * the sums is kept. */
#define DEFINE_FEW(name, dtype)                                                                                       \
	/* The sums of a part's groups in integers: @x is the first activation of its first step. */                  \
	static ALWAYS_INLINE const uint8_t *sum_part_##name(const uint8_t *block, const uint8_t *step,                \
							    const int8_t *x, unsigned n, ivec (*sums)[FEW_WIDTH])     \
	{                                                                                                             \
		const struct shape s = shape_of(dtype);                                                               \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
                                                                                                                      \
		for (unsigned begin = 0; begin < s.n_steps; begin += s.n_at_once) {                                   \
			ask_ahead(step, s.n_at_once * s.n_words);                                                     \
			UNROLL                                                                                        \
			for (unsigned u = 0; u < s.n_at_once; u++) {                                                  \
				ivec out[MAX_OUTPUTS];                                                                \
                                                                                                                      \
				step_##name(block, step + u * s.n_words * 64, begin + u, out);                        \
				UNROLL                                                                                \
				for (unsigned o = 0; o < s.n_outputs; o++) {                                          \
					UNROLL                                                                        \
					for (unsigned i = 0; i < n; i++) {                                            \
						ivec *sum = &sums[sum_of(s, o, kind)][i];                             \
						ivec codes = iv_broadcast(x + ((o * s.stride + u) * n + i) * 4);      \
                                                                                                                      \
						*sum = ds_tile_is_signed(kind) ? iv_dot_signed(*sum, out[o], codes)   \
									       : iv_dot(*sum, out[o], codes);         \
					}                                                                             \
				}                                                                                     \
			}                                                                                             \
			step += s.n_at_once * s.n_words * 64;                                                         \
			x += s.n_at_once * n * 4;                                                                     \
		}                                                                                                     \
		return step;                                                                                          \
	}                                                                                                             \
                                                                                                                      \
	/* What a block adds to @sum; @x, @x_scale and @corrections are of the block. */                              \
	static ALWAYS_INLINE void sum_block_##name(const uint8_t *heads, const uint8_t *words, const int8_t *x,       \
						   const float *x_scale, const char *corrections, unsigned n, fvec *sum) \
	{                                                                                                             \
		const struct shape s = shape_of(dtype);                                                               \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
		const unsigned n_sums = sum_of(s, s.n_outputs - 1, kind) + 1;                                         \
		const uint8_t *step = words + s.first * 64;                                                           \
		struct block_scales to;                                                                               \
		ivec total[FEW_WIDTH];                                                                                \
                                                                                                                      \
		ask_ahead(words, s.first);                                                                            \
		scales_##name(heads, words, (struct scales){to.scales, to.mins, to.k_scales, to.k_mins, to.d, to.d_min}); \
		UNROLL                                                                                                \
		for (unsigned i = 0; i < n; i++)                                                                      \
			total[i] = iv_set32(0);                                                                       \
		for (unsigned part = 0; part < s.n_parts; part++) {                                                   \
			ivec sums[MAX_OUTPUTS][FEW_WIDTH];                                                            \
                                                                                                                      \
			UNROLL                                                                                        \
			for (unsigned g = 0; g < n_sums; g++) {                                                       \
				const char *first = corrections + group_of(s, part, g, kind) * n * 4;                 \
                                                                                                                      \
				UNROLL                                                                                \
				for (unsigned i = 0; i < n; i++)                                                      \
					sums[g][i] = ds_tile_has_mins(kind) ? iv_set32(0) : iv_broadcast(first + i * 4); \
			}                                                                                             \
			step = sum_part_##name(words, step, x + part_begin(s, part) * n * 4, n, sums);                \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++) {                                                            \
				if (ds_tile_span(kind) < SPAN)                                                        \
					sum[i] = add_group(sum[i], sums[0][i], to.scales, to.mins, x_scale + i,       \
							   corrections + i * 4, kind);                                \
				else                                                                                  \
					total[i] = add_groups(total[i], sums, i, n_sums, to.k_scales +                \
							      group_of(s, part, 0, kind) * DS_PANEL,                  \
							      group_of(s, 0, 1, kind));                               \
			}                                                                                             \
		}                                                                                                     \
		if (ds_tile_span(kind) < SPAN)                                                                        \
			return;                                                                                       \
		UNROLL                                                                                                \
		for (unsigned i = 0; i < n; i++)                                                                      \
			sum[i] = add_block(sum[i], total[i], to.d, to.d_min, to.k_mins, x_scale + i,                  \
					   corrections + i * 4, n, kind);                                             \
	}                                                                                                             \
                                                                                                                      \
	static ALWAYS_INLINE void few_##name(const struct ds_few_product *op, const uint8_t *panel, unsigned r,       \
					     unsigned n, fvec *sum)                                                   \
	{                                                                                                             \
		const struct ds_panel_format f = ds_panel_format(dtype);                                              \
		const enum ds_tile_kind kind = ds_tile_type(dtype).kind;                                              \
		const uint8_t *heads = panel + r * f.head_size;                                                       \
		const uint8_t *words = panel + ds_panel_heads_size(&f, op->cols) + r * 4;                             \
		const char *corrections = op->codes.corrections;                                                      \
		const int8_t *x = op->codes.bytes;                                                                    \
		const float *x_scale = op->codes.scales;                                                              \
                                                                                                                      \
		for (size_t b = 0; b < op->cols / f.block; b++) {                                                     \
			sum_block_##name(heads, words, x, x_scale, corrections, n, sum);                              \
			heads += DS_PANEL * f.head_size;                                                              \
			words += (size_t)f.n_units * 64;                                                              \
			x += f.block * n;                                                                             \
			x_scale += f.block / ds_tile_span(kind) * n;                                                  \
			corrections += f.block / ds_tile_group(kind) * n * correction_size(kind);                     \
		}                                                                                                     \
	}                                                                                                             \
                                                                                                                      \
	static ALWAYS_INLINE void few_rows_##name(const struct ds_few_product *op, unsigned n)                        \
	{                                                                                                             \
		const size_t panel_size = ds_panel_size(dtype, op->cols);                                             \
                                                                                                                      \
		for (size_t row = 0; row < op->n_rows; row += LANES) {                                                \
			fvec sum[FEW_WIDTH];                                                                          \
                                                                                                                      \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++)                                                              \
				sum[i] = fv_set(0);                                                                   \
			few_##name(op, (const uint8_t *)op->panels + row / DS_PANEL * panel_size, row % DS_PANEL, n, sum); \
			UNROLL                                                                                        \
			for (unsigned i = 0; i < n; i++)                                                              \
				store_rows(op->y[i] + row, sum[i], op->n_rows - row, op->add);                        \
		}                                                                                                     \
	}                                                                                                             \
                                                                                                                      \
	static void few_product_##name(const struct ds_few_product *op)                                               \
	{                                                                                                             \
		const unsigned width = few_width(shape_of(dtype), ds_tile_type(dtype).kind);                          \
                                                                                                                      \
		switch (op->codes.n) {                                                                                \
			FEW_CASES(FEW_CASE, name)                                                                     \
		}                                                                                                     \
	}

#define FEW_CASE(n, name)                                                                                             \
	case n:                                                                                                       \
		if (n <= width)                                                                                       \
			few_rows_##name(op, n);                                                                       \
		break;

DS_TILE_TYPES(DEFINE_FEW)

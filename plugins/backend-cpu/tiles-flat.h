/* tiles-flat.h - tiles of small integers times scales become tiles of one scale a block, for many rows of activations.
 *
 * Included by tiles-simd.h. A block of 256 has 8 or 16 groups, whose sums are multiplied by scales on the units that
 * multiply bytes: a fifth of their time. Rounded once more, to 255 steps of what the largest byte of a type could mean, a
 * block is one sum. That adds about a hundredth to the divergence of four bits; docs/accuracy.md. */

/* A group of a block, in floats: what a byte is multiplied with, and what is added. */
struct line {
	fvec slope, start;
};

static ALWAYS_INLINE struct line line_of(const struct ds_tile *tile, size_t block, unsigned g, unsigned r,
					 struct ds_tile_type type)
{
	const size_t group = block * SPAN / ds_tile_group(type.kind) + g;
	fvec slope = fv_mul(fv_load(&tile->d[block][r]), fv_of_int(iv_load(&tile->k_scales[group][r])));
	ivec min;

	if (!ds_tile_has_mins(type.kind))
		return (struct line){slope, fv_mul(slope, fv_set((float)-type.offset))};
	min = iv_load(&tile->k_mins[group / 2][r]);
	min = group % 2 ? iv_shr(min, 16) : iv_and(min, iv_set32(0xffff));
	return (struct line){slope, fv_mul(fv_load(&tile->d_min[block][r]), fv_sub(fv_set(0), fv_of_int(min)))};
}

static ALWAYS_INLINE ivec to_halfwords(fvec v)
{
	ivec word = iv_and(iv_round(v), iv_set32(0xffff));

	return iv_or(word, iv_shl(word, 16));
}

/* @n times four bytes of a row become (byte * slope + start) / 256 in halfwords. */
static ALWAYS_INLINE void map_bytes(uint8_t *codes, unsigned n, ivec slope, ivec start)
{
	const ivec even = iv_set32(0x00ff00ff);

	UNROLL
	for (unsigned k = 0; k < n; k++) {
		ivec v = iv_load(codes + k * DS_PANEL_LINE);
		ivec a = iv_add_halfwords(iv_mul_halfwords(iv_and(v, even), slope), start);
		ivec b = iv_add_halfwords(iv_mul_halfwords(iv_and(iv_shr(v, 8), even), slope), start);

		iv_store(codes + k * DS_PANEL_LINE, iv_or(iv_and(iv_shr(a, 8), even), iv_and(b, iv_set32(0xff00ff00))));
	}
}

/* 0, or NaN where a scale of the block is not finite. */
static ALWAYS_INLINE fvec nothing_of(const struct ds_tile *tile, size_t block, unsigned r, enum ds_tile_kind kind)
{
	fvec d = fv_load(&tile->d[block][r]), d_min = ds_tile_has_mins(kind) ? fv_load(&tile->d_min[block][r]) : fv_set(0);

	return fv_add(fv_sub(d, d), fv_sub(d_min, d_min));
}

/* What a block of a vector's rows means, rounded to signed bytes of one scale: its largest value, as far as the bytes of a
 * type allow, is 127. Slopes and starts have 8 bits behind the point. */
static ALWAYS_INLINE void flatten_block(struct ds_tile *tile, size_t block, unsigned r, struct ds_tile_type type)
{
	const unsigned group = ds_tile_group(type.kind);
	fvec largest = fv_set(0x1p-100f), factor;

	for (unsigned g = 0; g < SPAN / group; g++) {
		struct line l = line_of(tile, block, g, r, type);

		largest = fv_max(largest, fv_max(fv_abs(l.start), fv_abs(fv_fma(l.slope, fv_set((float)type.flat), l.start))));
	}
	factor = fv_div(fv_set(127 * 256), largest);
	for (unsigned g = 0; g < SPAN / group; g++) {
		struct line l = line_of(tile, block, g, r, type);
		/* Half of a step, so that what is cut off rounds; and what the variant's signed bytes are greater by. */
		fvec start = fv_fma(l.start, factor, fv_set(128 + 256 * SIGNED_OFFSET));

		map_bytes(tile->codes[(block * SPAN + g * group) / 4][r], group / 4, to_halfwords(fv_mul(l.slope, factor)),
			  to_halfwords(start));
	}
	/* A scale that is infinite or no number makes what it scales none. */
	fv_store(&tile->d[block][r], fv_mul(fv_add(largest, nothing_of(tile, block, r, type.kind)), fv_set(1 / 127.0f)));
}

static void flatten(struct ds_tile *tile, size_t n, struct ds_tile_type type)
{
	for (size_t b = 0; b < n; b++)
		for (unsigned r = 0; r < DS_PANEL; r += LANES)
			if (type.kind == DS_TILE_K_MIN)
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_MIN, 0, type.flat});
			else if (type.kind == DS_TILE_K_MIN_16)
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_MIN_16, 0, type.flat});
			else
				flatten_block(tile, b, r, (struct ds_tile_type){DS_TILE_K_OFFSET_16, type.offset, type.flat});
}

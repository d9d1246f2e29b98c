/* panels.c - see panels.h. */
#include "panels.h"

#include <string.h>

enum { MAX_UNITS = 52 }; /* of a block: Q6_K */

/* One block of @n_rows rows, unit @order[u] in place u. */
static void pack_block(const struct ds_panel_format *f, const uint32_t *order, size_t n_rows, const char *src,
		       size_t pitch, uint8_t *heads, uint32_t *words)
{
	for (size_t r = 0; f->head_size > 0 && r < n_rows; r++)
		memcpy(heads + r * f->head_size, src + r * pitch + f->head, f->head_size);
	for (size_t u = 0; u < f->n_units; u++)
		for (size_t r = 0; r < n_rows; r++)
			memcpy(&words[u * DS_PANEL + r], src + r * pitch + f->body + order[u] * 4, 4);
}

void ds_panel_pack(enum ds_dtype dtype, size_t cols, size_t n_rows, const void *src, size_t pitch, void *dst)
{
	struct ds_panel_format f = ds_panel_format(dtype);
	size_t heads_size = ds_panel_heads_size(&f, cols), n_blocks = cols / f.block;
	uint8_t *heads = dst;
	uint32_t *words = (uint32_t *)(heads + heads_size), order[MAX_UNITS];

	for (uint32_t u = 0; u < f.n_units; u++)
		order[u] = ds_panel_unit(dtype, u);
	if (n_rows < DS_PANEL)
		memset(dst, 0, ds_panel_size(dtype, cols));
	for (size_t b = 0; b < n_blocks; b++) {
		pack_block(&f, order, n_rows, (const char *)src + b * f.size, pitch, heads, words);
		heads += DS_PANEL * f.head_size;
		words += f.n_units * DS_PANEL;
	}
	/* What is left of the last line of the heads. */
	memset(heads, 0, (size_t)((uint8_t *)dst + heads_size - heads));
}

void ds_panel_block(enum ds_dtype dtype, size_t cols, const void *panel, size_t row, size_t block, void *dst)
{
	struct ds_panel_format f = ds_panel_format(dtype);
	const char *heads = panel, *words = heads + ds_panel_heads_size(&f, cols) + block * f.n_units * DS_PANEL_LINE;
	char *to = dst;

	memcpy(to + f.head, heads + (block * DS_PANEL + row) * f.head_size, f.head_size);
	for (uint32_t u = 0; u < f.n_units; u++)
		memcpy(to + f.body + ds_panel_unit(dtype, u) * 4, words + (u * DS_PANEL + row) * 4, 4);
}

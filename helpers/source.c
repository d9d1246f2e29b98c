/* source.c - the ways in which a part of a tensor may lie in a file, and one function for each. */
#include "source.h"

#include <deepseekd/quants.h>
#include <fcntl.h>
#include <string.h>

#include "dtype.h"

#define FP8_BLOCK sizeof(((struct ds_block_fp8 *)0)->qs)

void ds_source_init(struct ds_source *source, const struct ds_model_builder *builder)
{
	*source = (struct ds_source){.builder = builder};
}

void ds_source_deinit(struct ds_source *source)
{
	free(source->raw);
	free(source->values);
	free(source->scales);
}

int ds_source_reserve(void **buffer, size_t *size, size_t needed, struct ds_error *err)
{
	if (needed <= *size)
		return 0;
	free(*buffer);
	*size = 0;
	*buffer = malloc(needed);
	if (!*buffer)
		return ds_fail(err, -ENOMEM, "no memory for a buffer of %zu bytes", needed);
	*size = needed;
	return 0;
}

/* @size bytes of file number @index for the tensor of @part. */
static int read_at(const struct ds_source *s, const struct ds_part *part, uint32_t index, void *to, size_t size,
		   uint64_t offset, struct ds_error *err)
{
	const struct ds_file *file = &ds_model_builder_files(s->builder)[index];
	uint32_t n_tensors;
	const char *name = ds_model_builder_tensors(s->builder, &n_tensors)[part->tensor].desc.name;

	for (size_t done = 0; done < size;) {
		ssize_t n = pread(file->fd, (char *)to + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ds_fail(err, -EIO, "%s: tensor %s cannot be read: %s", file->name, name,
				       strerror(errno));
		if (n == 0)
			return ds_fail(err, -EIO, "%s: the file changed while tensor %s was read: it ends at byte %llu",
				       file->name, name, (unsigned long long)(offset + done));
		done += (size_t)n;
	}
	return 0;
}

/* Have the scales of row @row of the part's rectangle in the file: those of a row of tiles. */
static int load_scales(struct ds_source *s, const struct ds_part *part, uint64_t row, struct ds_error *err)
{
	const struct ds_scales *scales = &part->scales;
	uint64_t tile_row, n;
	int r;

	if (scales->tile_rows == 0)
		return 0;
	tile_row = (scales->first_row + row) / scales->tile_rows;
	if (s->scaled == part && s->tile_row == tile_row)
		return 0;
	n = (scales->cols - 1) / scales->tile_cols + 1;
	s->scaled = NULL;
	r = ds_source_reserve((void **)&s->scales, &s->scales_size, n * sizeof(float), err);
	if (r == 0)
		r = read_at(s, part, scales->file, s->scales, n * sizeof(float),
			    scales->offset + tile_row * n * sizeof(float), err);
	if (r < 0)
		return r;
	s->scaled = part;
	s->tile_row = tile_row;
	return 0;
}

/* After load_scales(): that of column @col. */
static float scale_of(const struct ds_source *s, const struct ds_part *part, uint64_t col)
{
	return part->scales.tile_rows ? s->scales[col / part->scales.tile_cols] : 1;
}

/* @n elements of row @row of the part's rectangle in the file, from column @col on, whose bytes are @raw, to floats.
 * A product of e4m3 and its scale is rounded once, as in quants.h. */
static int to_floats(struct ds_source *s, const struct ds_part *part, uint64_t row, uint64_t col, uint64_t n,
		     const void *raw, float *y, struct ds_error *err)
{
	const uint8_t *bytes = raw;
	int r;

	if (part->dtype != DS_DTYPE_FP8) {
		ds_dequantize_row(y, raw, part->dtype, n);
		return 0;
	}
	r = load_scales(s, part, row, err);
	for (uint64_t i = 0; r == 0 && i < n; i++)
		y[i] = scale_of(s, part, col + i) * ds_e4m3_to_f32(bytes[i]);
	return r;
}

/* A row of @cols bytes of e4m3 to blocks that hold their scales; the last is padded with zeros. */
static int to_fp8_blocks(struct ds_source *s, const struct ds_part *part, uint64_t row, uint64_t cols,
			 const uint8_t *raw, uint8_t *to, struct ds_error *err)
{
	int r = load_scales(s, part, row, err);

	for (uint64_t col = 0; r == 0 && col < cols; col += FP8_BLOCK, to += sizeof(struct ds_block_fp8)) {
		struct ds_block_fp8 block = {.scale = scale_of(s, part, col)};

		memcpy(block.qs, raw + col, cols - col < FP8_BLOCK ? cols - col : FP8_BLOCK);
		memcpy(to, &block, sizeof(block));
	}
	return r;
}

/* Row @c of a turned part, elements [@first, @first + @n) of which are @raw, becomes column @c of @to (n, cols). */
static int turn_row(struct ds_source *s, const struct ds_model_tensor *t, const struct ds_part *part, uint64_t c,
		    uint64_t first, uint64_t n, const void *raw, void *to, struct ds_error *err)
{
	const uint16_t *halves = raw;
	uint16_t *half = to;
	float *y = to;
	uint64_t skipped = first % (part->dtype == DS_DTYPE_FP8 ? 1 : ds_dtype_info(part->dtype)->block);
	int r;

	if (t->desc.dtype == part->dtype && part->dtype != DS_DTYPE_F32) { /* 16 bits */
		for (uint64_t i = 0; i < n; i++)
			memcpy(&half[i * t->cols + c], &halves[i], sizeof(*half));
		return 0;
	}
	r = ds_source_reserve((void **)&s->values, &s->values_size, (skipped + n) * sizeof(float), err);
	if (r == 0)
		r = to_floats(s, part, c, first - skipped, skipped + n, raw, s->values, err);
	for (uint64_t i = 0; r == 0 && i < n; i++)
		if (t->desc.dtype == DS_DTYPE_BF16)
			half[i * t->cols + c] = ds_f32_to_bf16(s->values[skipped + i]);
		else
			y[i * t->cols + c] = s->values[skipped + i];
	return r;
}

/* Rows [@first, @first + @n) of a turned part: the same stretch of each of its rows in the file, in whole blocks. */
static int read_turned(struct ds_source *s, const struct ds_model_tensor *t, const struct ds_part *part, uint64_t first,
		       uint64_t n, void *to, struct ds_error *err)
{
	uint64_t block = part->dtype == DS_DTYPE_FP8 ? 1 : ds_dtype_info(part->dtype)->block;
	uint64_t begin = first / block * block, end = (first + n + block - 1) / block * block;
	size_t size = ds_part_row_size(part, end - begin), stride = ds_part_row_size(part, part->n_rows);
	int r = ds_source_reserve(&s->raw, &s->raw_size, t->cols * size, err);

	if (r == 0 && size == stride)
		r = read_at(s, part, part->file, s->raw, t->cols * size, part->offset, err);
	for (uint64_t c = 0; r == 0 && c < t->cols; c++) {
		char *raw = (char *)s->raw + c * size;

		if (size != stride)
			r = read_at(s, part, part->file, raw, size,
				    part->offset + c * stride + ds_part_row_size(part, begin), err);
		if (r == 0)
			r = turn_row(s, t, part, c, first, n, raw, to, err);
	}
	return r;
}

/* @n rows of @part from its row @first, as they are in the file but one after the other. */
static int read_raw(struct ds_source *s, const struct ds_part *part, uint64_t row_size, uint64_t first, uint64_t n,
		    void *to, struct ds_error *err)
{
	int r = 0;

	if (part->stride == 0 || part->stride == row_size)
		return read_at(s, part, part->file, to, n * row_size, part->offset + first * row_size, err);
	for (uint64_t i = 0; r == 0 && i < n; i++)
		r = read_at(s, part, part->file, (char *)to + i * row_size, row_size,
			    part->offset + (first + i) * part->stride, err);
	return r;
}

/* @n rows of @part from its row @first. */
static int read_part(struct ds_source *s, const struct ds_model_tensor *t, const struct ds_part *part, uint64_t first,
		     uint64_t n, void *to, struct ds_error *err)
{
	uint64_t raw_size = ds_part_row_size(part, t->cols), size = ds_row_size(t->desc.dtype, t->cols);
	int r;

	if (part->transposed)
		return read_turned(s, t, part, first, n, to, err);
	if (part->dtype == t->desc.dtype && part->dtype != DS_DTYPE_FP8)
		return read_raw(s, part, raw_size, first, n, to, err);
	r = ds_source_reserve(&s->raw, &s->raw_size, n * raw_size, err);
	if (r == 0)
		r = read_raw(s, part, raw_size, first, n, s->raw, err);
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		const uint8_t *raw = (const uint8_t *)s->raw + i * raw_size;
		void *y = (char *)to + i * size;

		r = t->desc.dtype == DS_DTYPE_F32 ? to_floats(s, part, first + i, 0, t->cols, raw, y, err)
						  : to_fp8_blocks(s, part, first + i, t->cols, raw, y, err);
	}
	return r;
}

int ds_source_read(struct ds_source *source, const struct ds_model_tensor *t, uint64_t row, uint64_t n_rows, void *to,
		   struct ds_error *err)
{
	size_t row_size = ds_row_size(t->desc.dtype, t->cols);
	const struct ds_part *part = ds_model_tensor_part(t, row);
	char *y = to;

	for (; n_rows > 0; part++) {
		uint64_t first = row - part->row;
		uint64_t n = part->n_rows - first < n_rows ? part->n_rows - first : n_rows;
		int r = read_part(source, t, part, first, n, y, err);

		if (r < 0)
			return r;
		y += n * row_size;
		row += n;
		n_rows -= n;
	}
	return 0;
}

void ds_source_advise(const struct ds_source *source, const struct ds_model_tensor *t, uint64_t row, uint64_t n_rows,
		      int advice)
{
	const struct ds_file *files = ds_model_builder_files(source->builder);
	uint64_t end = t->rows - row < n_rows ? t->rows : row + n_rows;

	for (const struct ds_part *p = ds_model_tensor_part(t, row); row < end; row = p->row + p->n_rows, p++) {
		uint64_t first = row - p->row, last = end - p->row < p->n_rows ? end - p->row : p->n_rows;
		uint64_t row_size = ds_part_row_size(p, p->transposed ? p->n_rows : t->cols);
		uint64_t stride = p->stride ? p->stride : row_size;

		if (p->transposed && (advice == POSIX_FADV_DONTNEED ? last < p->n_rows : first > 0))
			continue;
		if (p->transposed) {
			first = 0;
			last = t->cols;
		}
		posix_fadvise(files[p->file].fd, (off_t)(p->offset + first * stride),
			      (off_t)((last - first - 1) * stride + row_size), advice);
	}
}

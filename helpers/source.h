/* source.h - reads rows of a tensor out of the files of a checkpoint, in the type that the tensor is kept in.
 *
 * Whatever the parts of the tensor are - strided, turned, of another type, with scales apart - what comes out is plain
 * rows. A source only holds buffers: who reads with several threads gives each its own. */
#pragma once

#include "builder.h"

struct ds_source {
	const struct ds_model_builder *builder;
	void *raw; /* bytes as they lie in a file */
	size_t raw_size;
	float *values; /* a stretch of a row of a turned part */
	size_t values_size;
	float *scales; /* of the row of tiles that was used last */
	size_t scales_size;
	const struct ds_part *scaled; /* whose they are, NULL: nobody's */
	uint64_t tile_row;	      /* and which row of tiles */
};

/* @builder is planned; borrowed. */
void ds_source_init(struct ds_source *source, const struct ds_model_builder *builder);
void ds_source_deinit(struct ds_source *source);

/* Rows [@row, @row + @n_rows) of @t to @to: @n_rows times ds_row_size() bytes.
 * -EIO: a file changed while it was read, or cannot be read; the sentence names it and the tensor. */
int ds_source_read(struct ds_source *source, const struct ds_model_tensor *t, uint64_t row, uint64_t n_rows, void *to,
		   struct ds_error *err);

/* Tell the kernel what becomes of the bytes of these rows in their files (posix_fadvise). A turned part is told of as a
 * whole, when its first rows are needed or its last ones were. */
void ds_source_advise(const struct ds_source *source, const struct ds_model_tensor *t, uint64_t row, uint64_t n_rows,
		      int advice);

/* A buffer that holds @needed bytes, its old content being of no interest. */
int ds_source_reserve(void **buffer, size_t *size, size_t needed, struct ds_error *err);

/* Bytes of a row of @part in its file, the row being @n elements. Plain e4m3 bytes are no blocks. */
static inline uint64_t ds_part_row_size(const struct ds_part *part, uint64_t n)
{
	return part->dtype == DS_DTYPE_FP8 ? n : ds_row_size(part->dtype, n);
}

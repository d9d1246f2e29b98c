/* fill.c - one tensor after the other, a few MiB of whole blocks at a time. */
#include "fill.h"

#include <deepseekd/quants.h>
#include <fcntl.h>
#include <string.h>

#define CHUNK (4u << 20)          /* bytes of rows at a time, if blocks allow */
#define PROGRESS_STEP (16u << 20) /* bytes between two reports, or a hundredth of the image if that is more */

struct fill {
	const struct ds_model_builder *builder;
	const struct ds_backend_ops *backend;
	int fd;
	ds_fill_progress *progress;
	void *self;
	uint64_t done, reported, total; /* bytes of the image */
	/* buffers, each grown to what the largest chunk so far needed */
	void *raw;  /* elements as they lie in the file */
	void *rows; /* (n_rows, cols) in the tensor's type */
	void *blocks;
	size_t raw_size, rows_size, blocks_size;
};

static void fill_deinit(struct fill *f)
{
	free(f->raw);
	free(f->rows);
	free(f->blocks);
}

static int reserve(void **buffer, size_t *size, size_t needed, struct ds_error *err)
{
	void *larger;

	if (needed <= *size)
		return 0;
	free(*buffer);
	*size = 0;
	*buffer = larger = malloc(needed);
	if (!larger)
		return ds_fail(err, -ENOMEM, "no memory for a buffer of %zu bytes", needed);
	*size = needed;
	return 0;
}

static int read_at(const struct fill *f, const struct ds_part *part, void *to, size_t size, uint64_t offset,
		   struct ds_error *err)
{
	const struct ds_file *file = &ds_model_builder_files(f->builder)[part->file];
	uint32_t n_tensors;
	const char *name = ds_model_builder_tensors(f->builder, &n_tensors)[part->tensor].desc.name;

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

/* Turn @raw (cols, n_rows) of type @from into @to (n_rows, cols) of type @type. */
static void transpose(void *to, enum ds_dtype type, const void *raw, enum ds_dtype from, uint64_t n_rows, uint64_t cols)
{
	size_t size = ds_dtype_size(from), to_size = ds_dtype_size(type);

	for (uint64_t c = 0; c < cols; c++)
		for (uint64_t r = 0; r < n_rows; r++) {
			const char *x = (const char *)raw + (c * n_rows + r) * size;
			char *y = (char *)to + (r * cols + c) * to_size;

			if (from != type)
				ds_dequantize_block((float *)(void *)y, x, from);
			else if (size == 4)
				memcpy(y, x, 4);
			else
				memcpy(y, x, 2);
		}
}

/* Read @n_rows rows of a transposed part from its row @first into f->raw: the same stretch of each of its columns. */
static int read_columns(struct fill *f, const struct ds_part *part, uint64_t cols, uint64_t first, uint64_t n_rows,
			struct ds_error *err)
{
	size_t element = ds_dtype_size(part->dtype);
	int r = 0;

	if (n_rows == part->n_rows)
		return read_at(f, part, f->raw, n_rows * cols * element, part->offset, err);
	for (uint64_t c = 0; r == 0 && c < cols; c++)
		r = read_at(f, part, (char *)f->raw + c * n_rows * element, n_rows * element,
			    part->offset + (c * part->n_rows + first) * element, err);
	return r;
}

/* Read @n_rows rows of @part from its row @first into @to, in the tensor's type. */
static int read_rows(struct fill *f, const struct ds_model_tensor *t, const struct ds_part *part, uint64_t first,
		     uint64_t n_rows, void *to, struct ds_error *err)
{
	size_t row_size = t->cols * ds_dtype_size(part->dtype);
	bool as_it_is = part->dtype == t->desc.dtype;
	int r;

	if (part->transposed) {
		r = read_columns(f, part, t->cols, first, n_rows, err);
		if (r == 0)
			transpose(to, t->desc.dtype, f->raw, part->dtype, n_rows, t->cols);
		return r;
	}
	r = read_at(f, part, as_it_is ? to : f->raw, n_rows * row_size, part->offset + first * row_size, err);
	if (r == 0 && !as_it_is)
		ds_dequantize_row(to, f->raw, part->dtype, n_rows * t->cols);
	return r;
}

/* Read rows [@row, @row + @n_rows) of @t into the buffer, from as many parts as they touch; *@part moves along. */
static int gather_rows(struct fill *f, const struct ds_model_tensor *t, const struct ds_part **part, uint64_t row,
		       uint64_t n_rows, struct ds_error *err)
{
	size_t row_size = t->cols * ds_dtype_size(t->desc.dtype);
	char *to = f->rows;

	while (n_rows > 0) {
		uint64_t first, n;
		int r;

		while (row >= (*part)->row + (*part)->n_rows)
			(*part)++;
		first = row - (*part)->row;
		n = (*part)->n_rows - first < n_rows ? (*part)->n_rows - first : n_rows;
		r = read_rows(f, t, *part, first, n, to, err);
		if (r < 0)
			return r;
		to += n * row_size;
		row += n;
		n_rows -= n;
	}
	return 0;
}

static int write_at(const struct fill *f, const void *data, size_t size, uint64_t offset, struct ds_error *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(f->fd, (const char *)data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ds_fail(err, n < 0 ? -errno : -EIO, "the image cannot be written: %s",
				       strerror(n < 0 ? errno : EIO));
		done += (size_t)n;
	}
	return 0;
}

static int report(struct fill *f, uint64_t done, struct ds_error *err)
{
	uint64_t step = f->total / 100 > PROGRESS_STEP ? f->total / 100 : PROGRESS_STEP;

	f->done = done;
	if (done < f->total && done - f->reported < step)
		return 0;
	f->reported = done;
	return f->progress(f->self, done, f->total, err);
}

/* The pages of what was read once will not be needed again: the image holds it. */
static void forget(const struct fill *f, const struct ds_model_tensor *t)
{
	const struct ds_file *files = ds_model_builder_files(f->builder);

	for (uint32_t i = 0; i < t->n_parts; i++) {
		const struct ds_part *p = &t->parts[i];

		posix_fadvise(files[p->file].fd, (off_t)p->offset,
			      (off_t)(p->n_rows * t->cols * ds_dtype_size(p->dtype)), POSIX_FADV_DONTNEED);
	}
}

/* Whole blocks of @t that make a chunk, in rows. */
static uint64_t rows_of_chunk(const struct ds_model_tensor *t)
{
	uint64_t block = t->layout.block_rows * t->cols * ds_dtype_size(t->desc.dtype);
	uint64_t n_blocks = CHUNK / block, all = (t->rows - 1) / t->layout.block_rows + 1;

	if (n_blocks > all)
		n_blocks = all;
	if (n_blocks > CHUNK / t->layout.block_size)
		n_blocks = CHUNK / t->layout.block_size;
	return (n_blocks ? n_blocks : 1) * t->layout.block_rows;
}

static int fill_tensor(struct fill *f, uint32_t i, struct ds_error *err)
{
	uint32_t n_tensors;
	const struct ds_model_tensor *t = &ds_model_builder_tensors(f->builder, &n_tensors)[i];
	const struct ds_layout *layout = &t->layout;
	const struct ds_part *part = t->parts;
	uint64_t offset = ds_image_writer_offset(ds_model_builder_image(f->builder), i);
	size_t row_size = t->cols * ds_dtype_size(t->desc.dtype);
	uint64_t chunk = rows_of_chunk(t);
	int r = reserve(&f->rows, &f->rows_size, chunk * row_size, err);

	if (r == 0)
		r = reserve(&f->raw, &f->raw_size, chunk * row_size, err);
	if (r == 0)
		r = reserve(&f->blocks, &f->blocks_size, chunk / layout->block_rows * layout->block_size, err);
	for (uint64_t row = 0; r == 0 && row < t->rows; row += chunk) {
		uint64_t n_rows = t->rows - row < chunk ? t->rows - row : chunk;
		size_t size = 0;

		r = gather_rows(f, t, &part, row, n_rows, err);
		for (uint64_t b = 0; r == 0 && b < n_rows; b += layout->block_rows, size += layout->block_size)
			f->backend->pack(&t->desc, layout,
					 n_rows - b < layout->block_rows ? n_rows - b : layout->block_rows,
					 (const char *)f->rows + b * row_size, (char *)f->blocks + size);
		if (r == 0)
			r = write_at(f, f->blocks, size, offset, err);
		offset += size;
		if (r == 0)
			r = report(f, offset, err);
	}
	forget(f, t);
	return r;
}

int ds_fill(const struct ds_model_builder *builder, const struct ds_backend_ops *backend, int fd,
	    ds_fill_progress *progress, void *self, struct ds_error *err)
{
	const struct ds_image_writer *image = ds_model_builder_image(builder);
	ds_cleanup(fill_deinit) struct fill f = {
		.builder = builder,
		.backend = backend,
		.fd = fd,
		.progress = progress,
		.self = self,
		.total = ds_image_writer_size(image),
	};
	uint32_t n_tensors;
	int r = ds_image_writer_write(image, fd, err);

	ds_model_builder_tensors(builder, &n_tensors);
	for (uint32_t i = 0; r == 0 && i < n_tensors; i++)
		r = fill_tensor(&f, i, err);
	if (r == 0 && f.reported < f.total)
		r = report(&f, f.total, err);
	return r;
}

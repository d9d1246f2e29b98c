/* fill.c - one tensor after the other, a few MiB of whole blocks at a time. */
#include "fill.h"
#include "source.h"

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
	struct ds_source source;
	void *rows; /* (n_rows, cols) in the tensor's type */
	void *blocks;
	size_t rows_size, blocks_size;
};

static void fill_deinit(struct fill *f)
{
	ds_source_deinit(&f->source);
	free(f->rows);
	free(f->blocks);
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

		uint64_t row_size = ds_part_row_size(p, p->transposed ? p->n_rows : t->cols);
		uint64_t n = p->transposed ? t->cols : p->n_rows;

		posix_fadvise(files[p->file].fd, (off_t)p->offset,
			      (off_t)((n - 1) * (p->stride ? p->stride : row_size) + row_size), POSIX_FADV_DONTNEED);
	}
}

/* Whole blocks of @t that make a chunk, in rows. */
static uint64_t rows_of_chunk(const struct ds_model_tensor *t)
{
	uint64_t block = t->layout.block_rows * ds_row_size(t->desc.dtype, t->cols);
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
	uint64_t offset = ds_image_writer_offset(ds_model_builder_image(f->builder), i);
	size_t row_size = ds_row_size(t->desc.dtype, t->cols);
	uint64_t chunk = rows_of_chunk(t);
	int r = ds_source_reserve(&f->rows, &f->rows_size, chunk * row_size, err);

	if (r == 0)
		r = ds_source_reserve(&f->blocks, &f->blocks_size, chunk / layout->block_rows * layout->block_size, err);
	for (uint64_t row = 0; r == 0 && row < t->rows; row += chunk) {
		uint64_t n_rows = t->rows - row < chunk ? t->rows - row : chunk;
		size_t size = 0;

		r = ds_source_read(&f->source, t, row, n_rows, f->rows, err);
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

	ds_source_init(&f.source, builder);
	ds_model_builder_tensors(builder, &n_tensors);
	for (uint32_t i = 0; r == 0 && i < n_tensors; i++)
		r = fill_tensor(&f, i, err);
	if (r == 0 && f.reported < f.total)
		r = report(&f, f.total, err);
	return r;
}

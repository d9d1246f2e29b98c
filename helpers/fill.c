/* fill.c - about a MiB of whole blocks at a time, by as many threads as there are CPUs: while one waits for its file, others
 * convert, pack and write. All they share is who does what, under one lock. */
#include "fill.h"
#include "source.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define CHUNK (1u << 20)          /* bytes of rows at a time, if blocks allow */
#define PROGRESS_STEP (16u << 20) /* bytes between two reports, or a hundredth of the image if that is more */
#define MAX_THREADS 16		  /* then the memory is what limits */

/* Rows [row, row + n_rows) of a tensor, whole blocks of it, and where they go in the image. */
struct chunk {
	const struct ds_model_tensor *t;
	uint64_t row, n_rows, offset;
};

struct fill {
	const struct ds_model_builder *builder;
	const struct ds_backend_ops *backend;
	int fd;
	ds_fill_progress *progress;
	void *self;

	pthread_mutex_t lock; /* of all that follows; progress is told under it */
	uint32_t tensor;      /* the next chunk is of this one */
	uint64_t row;	      /* and begins here */
	uint64_t done, reported, total; /* bytes of the image */
	int result;		       /* the first failure, and its sentence */
	struct ds_error error;
};

/* One thread and its buffers, each grown to what the largest chunk so far needed. */
struct worker {
	struct fill *fill;
	pthread_t thread;
	struct ds_source source;
	void *rows; /* (n_rows, cols) in the tensor's type */
	void *blocks;
	size_t rows_size, blocks_size;
};

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

/* The next chunk that nobody has taken. False: there is none, or there is no point in one. Under the lock. */
static bool take(struct fill *f, struct chunk *c)
{
	uint32_t n_tensors;
	const struct ds_model_tensor *tensors = ds_model_builder_tensors(f->builder, &n_tensors), *t;
	uint64_t chunk;

	while (f->tensor < n_tensors && tensors[f->tensor].is_mapped)
		f->tensor++;
	if (f->tensor >= n_tensors || f->result < 0)
		return false;
	t = &tensors[f->tensor];
	chunk = rows_of_chunk(t);
	*c = (struct chunk){
		.t = t,
		.row = f->row,
		.n_rows = t->rows - f->row < chunk ? t->rows - f->row : chunk,
		.offset = ds_image_writer_offset(ds_model_builder_image(f->builder), f->tensor) +
			  f->row / t->layout.block_rows * t->layout.block_size,
	};
	f->row += c->n_rows;
	if (f->row == t->rows) {
		f->row = 0;
		f->tensor++;
	}
	return true;
}

/* The rows of the chunk as the backend wants them: *@data, @size bytes. Plain rows are that already. */
static int pack(struct worker *w, const struct chunk *c, const void **data, size_t *size, struct ds_error *err)
{
	const struct ds_layout *layout = &c->t->layout;
	size_t row_size = ds_row_size(c->t->desc.dtype, c->t->cols);
	uint64_t n_blocks = (c->n_rows - 1) / layout->block_rows + 1;
	int r;

	*data = w->rows;
	*size = c->n_rows * row_size;
	if (layout->id == 0 && layout->block_size == layout->block_rows * row_size)
		return 0;
	*size = n_blocks * layout->block_size;
	r = ds_source_reserve(&w->blocks, &w->blocks_size, *size, err);
	for (uint64_t i = 0; r == 0 && i < n_blocks; i++) {
		uint64_t row = i * layout->block_rows, left = c->n_rows - row;

		w->fill->backend->pack(&c->t->desc, layout, left < layout->block_rows ? left : layout->block_rows,
				       (const char *)w->rows + row * row_size,
				       (char *)w->blocks + i * layout->block_size);
	}
	*data = w->blocks;
	return r;
}

static int fill_chunk(struct worker *w, const struct chunk *c, size_t *size, struct ds_error *err)
{
	const void *data;
	int r = ds_source_reserve(&w->rows, &w->rows_size, c->n_rows * ds_row_size(c->t->desc.dtype, c->t->cols), err);

	/* what somebody will read next is on its way while this is converted */
	if (c->row + c->n_rows < c->t->rows)
		ds_source_advise(&w->source, c->t, c->row + c->n_rows, c->n_rows, POSIX_FADV_WILLNEED);
	if (r == 0)
		r = ds_source_read(&w->source, c->t, c->row, c->n_rows, w->rows, err);
	if (r == 0)
		r = pack(w, c, &data, size, err);
	if (r == 0)
		r = write_at(w->fill, data, *size, c->offset, err);
	/* the image holds it: its pages in the cache would only take memory from others, unless an engine maps them */
	if (!ds_model_builder_is_mapped(w->fill->builder))
		ds_source_advise(&w->source, c->t, c->row, c->n_rows, POSIX_FADV_DONTNEED);
	return r;
}

static void *work(void *self)
{
	struct worker *w = self;
	struct fill *f = w->fill;
	struct chunk c;

	pthread_mutex_lock(&f->lock);
	while (take(f, &c)) {
		struct ds_error err = {""};
		size_t size = 0;
		int r;

		pthread_mutex_unlock(&f->lock);
		r = fill_chunk(w, &c, &size, &err);
		pthread_mutex_lock(&f->lock);
		if (r == 0 && f->result == 0)
			r = report(f, f->done + size, &err);
		if (r < 0 && f->result == 0) {
			f->result = r;
			f->error = err;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* At least two, so that one may wait for the disk. */
static unsigned count_threads(void)
{
	cpu_set_t cpus;
	int n = sched_getaffinity(0, sizeof(cpus), &cpus) < 0 ? 2 : CPU_COUNT(&cpus);

	return n < 2 ? 2 : n > MAX_THREADS ? MAX_THREADS : (unsigned)n;
}

/* The caller is one of the threads; those that cannot be had are not missed. */
static void fill_tensors(struct fill *f)
{
	struct worker workers[MAX_THREADS] = {0};
	unsigned n = count_threads(), n_started = 1;

	for (unsigned i = 0; i < n; i++) {
		workers[i].fill = f;
		ds_source_init(&workers[i].source, f->builder);
	}
	while (n_started < n && pthread_create(&workers[n_started].thread, NULL, work, &workers[n_started]) == 0)
		n_started++;
	work(&workers[0]);
	for (unsigned i = 1; i < n_started; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < n; i++) {
		ds_source_deinit(&workers[i].source);
		free(workers[i].rows);
		free(workers[i].blocks);
	}
}

int ds_fill(const struct ds_model_builder *builder, const struct ds_backend_ops *backend, int fd,
	    ds_fill_progress *progress, void *self, struct ds_error *err)
{
	const struct ds_image_writer *image = ds_model_builder_image(builder);
	struct fill f = {
		.builder = builder,
		.backend = backend,
		.fd = fd,
		.progress = progress,
		.self = self,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.total = ds_image_writer_size(image),
	};
	int r = ds_image_writer_write(image, fd, err);

	if (r < 0)
		return r;
	fill_tensors(&f);
	if (f.result < 0) {
		if (err)
			*err = f.error;
		return f.result;
	}
	return f.reported < f.total ? report(&f, f.total, err) : 0;
}

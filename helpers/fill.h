/* fill.h - from the files of a checkpoint into the memory of its image: read, widen, pack, write.
 *
 * Streams: what is held in memory does not grow with the model, only with the threads, its widest row and the backend's
 * blocks. The threads live only while it fills. */
#pragma once

#include "builder.h"

/* Told from time to time, by one thread at a time, how many of the @total bytes of the image are written. A negative answer
 * ends the filling. */
typedef int ds_fill_progress(void *self, uint64_t done, uint64_t total, struct ds_error *err);

/* Write the planned image of @builder into @fd, which has exactly its size.
 * -EIO: a file changed while it was read, or cannot be read; the sentence names it and the tensor. */
int ds_fill(const struct ds_model_builder *builder, const struct ds_backend_ops *backend, int fd,
	    ds_fill_progress *progress, void *self, struct ds_error *err);

/* image-writer.h - lays out a model image and writes everything in it but the tensors themselves.
 *
 * Give it the hyperparameters, perhaps a vocabulary, and the tensors in the order in which they are to lie; then
 * ds_image_writer_layout() fixes every offset. All of it is copied. What it accepts, ds_image_open() accepts. */
#pragma once

#include "image.h"

#include <sys/stat.h>

struct ds_image_writer;

int ds_image_writer_new(struct ds_image_writer **out, struct ds_error *err);
struct ds_image_writer *ds_image_writer_free(struct ds_image_writer *writer); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_image_writer)

/* Once each. -EINVAL: out of range, or given twice. */
int ds_image_writer_hparams(struct ds_image_writer *writer, const struct ds_hparams *hparams, struct ds_error *err);
int ds_image_writer_vocabulary(struct ds_image_writer *writer, const struct ds_vocabulary *v, struct ds_error *err);
int ds_image_writer_dialect(struct ds_image_writer *writer, const char *name, struct ds_error *err);
int ds_image_writer_backend(struct ds_image_writer *writer, const char *identity, struct ds_error *err);

/* One more tensor, stored with @layout in @size bytes. */
int ds_image_writer_tensor(struct ds_image_writer *writer, const struct ds_tensor_desc *desc, uint32_t layout,
			   uint64_t size, struct ds_error *err);

/* A file that tensors of the image stay in: its number. -E2BIG: too many. */
int ds_image_writer_file(struct ds_image_writer *writer, const char *name, const struct stat *st, uint32_t *number,
			 struct ds_error *err);
/* One more tensor, which stays in files: each of its @n_places matrices, or all of it in one place. */
int ds_image_writer_mapped_tensor(struct ds_image_writer *writer, const struct ds_tensor_desc *desc,
				  const struct ds_image_place *places, uint32_t n_places, struct ds_error *err);

/* Fix the offsets. Nothing may be added afterwards. -EINVAL: something is missing, contradictory or there twice. */
int ds_image_writer_layout(struct ds_image_writer *writer, struct ds_error *err);

/* After layout: the bytes of the image, those of all tensors, of them those of tensors that stay in files, and where the
 * tensor given as number @i begins, if it does not. */
uint64_t ds_image_writer_size(const struct ds_image_writer *writer);
uint64_t ds_image_writer_weights_size(const struct ds_image_writer *writer);
uint64_t ds_image_writer_mapped_size(const struct ds_image_writer *writer);
uint64_t ds_image_writer_offset(const struct ds_image_writer *writer, uint32_t i);
const struct ds_hparams *ds_image_writer_get_hparams(const struct ds_image_writer *writer); /* NULL: not given yet */
const char *ds_image_writer_get_dialect(const struct ds_image_writer *writer);              /* "": none */
const struct ds_image_file *ds_image_writer_get_files(const struct ds_image_writer *writer, uint32_t *n);
bool ds_image_writer_has_vocabulary(const struct ds_image_writer *writer);

/* After layout: write all but the tensors into @fd, which has the size of the image. */
int ds_image_writer_write(const struct ds_image_writer *writer, int fd, struct ds_error *err);

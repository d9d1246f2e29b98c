/* gguf-writer.h - writes GGUF (version 3): keys, then tensors, then where each tensor's bytes go is known.
 *
 * First all keys, then all tensors in the order of their bytes, then ds_gguf_writer_layout(). A call that fails for
 * want of memory makes that one fail; so nobody else needs to check. Names are the caller's to choose well: no key and
 * no tensor may be given twice. */
#pragma once

#include <deepseekd/model.h>

#define DS_GGUF_ALIGN 32u

struct ds_gguf_writer;

int ds_gguf_writer_new(struct ds_gguf_writer **out, struct ds_error *err);
struct ds_gguf_writer *ds_gguf_writer_free(struct ds_gguf_writer *writer); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_gguf_writer)

/* The key "PREFIX.NAME", or NAME if @prefix is NULL. */
void ds_gguf_writer_u32(struct ds_gguf_writer *writer, const char *prefix, const char *name, uint32_t value);
void ds_gguf_writer_f32(struct ds_gguf_writer *writer, const char *prefix, const char *name, float value);
void ds_gguf_writer_bool(struct ds_gguf_writer *writer, const char *prefix, const char *name, bool value);
void ds_gguf_writer_text(struct ds_gguf_writer *writer, const char *prefix, const char *name, const char *value);

/* An array of @n elements: ints or floats at once, texts one after the other by ds_gguf_writer_element(). */
void ds_gguf_writer_ints(struct ds_gguf_writer *writer, const char *name, const int32_t *values, uint64_t n);
void ds_gguf_writer_floats(struct ds_gguf_writer *writer, const char *name, const float *values, uint64_t n);
void ds_gguf_writer_texts(struct ds_gguf_writer *writer, const char *name, uint64_t n);
void ds_gguf_writer_element(struct ds_gguf_writer *writer, const char *text, uint64_t size);

/* @ne: dimensions as GGUF counts them, the innermost first. */
void ds_gguf_writer_tensor(struct ds_gguf_writer *writer, const char *name, enum ds_dtype dtype, uint32_t n_dims,
			   const uint64_t *ne);

/* Fix the offsets. -ENOMEM: also of any call before. */
int ds_gguf_writer_layout(struct ds_gguf_writer *writer, struct ds_error *err);

/* After layout: the bytes of the file; where tensor @i, as given, begins; write all but the tensors. */
uint64_t ds_gguf_writer_size(const struct ds_gguf_writer *writer);
uint64_t ds_gguf_writer_offset(const struct ds_gguf_writer *writer, uint32_t i);
int ds_gguf_writer_write(const struct ds_gguf_writer *writer, int fd, struct ds_error *err);

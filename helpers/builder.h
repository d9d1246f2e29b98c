/* builder.h - the model that a format plugin describes, piece by piece, and the plan of its image.
 *
 * The plugin calls what ds_model_builder_calls() offers; every call is checked against the files' sizes and copied.
 * Then ds_model_builder_plan() checks that every row of every tensor is given exactly once, asks the backend how each
 * is to be stored, and lays the image out. After a failure the builder is only good for freeing. */
#pragma once

#include <deepseekd/backend.h>
#include <deepseekd/dialect.h>
#include <deepseekd/format.h>

#include "image-writer.h"

struct ds_model_builder;

/* A tensor as it was described, and how it will be stored. */
struct ds_model_tensor {
	struct ds_tensor_desc desc;
	uint64_t rows, cols; /* the shape, flattened */
	struct ds_layout layout;
	bool is_mapped;		     /* it stays in the files, the image only says where */
	const struct ds_part *parts; /* [n_parts], rising rows without a gap: valid after planning */
	uint32_t n_parts;
};

/* @files are borrowed and outlive the builder. */
int ds_model_builder_new(struct ds_model_builder **out, const struct ds_file *files, size_t n_files,
			 struct ds_error *err);
struct ds_model_builder *ds_model_builder_free(struct ds_model_builder *builder); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_model_builder)

/* What the format plugin gets. Lives as long as the builder. */
const struct ds_builder *ds_model_builder_calls(struct ds_model_builder *builder);

/* Ask @vet of a vocabulary before it is taken; what it refuses with is why the call fails. */
typedef int ds_vet_vocabulary(const void *self, const struct ds_vocabulary *vocabulary, struct ds_error *err);
void ds_model_builder_vet(struct ds_model_builder *builder, ds_vet_vocabulary *vet, const void *self);

/* Before planning: let tensors stay in the files where they lie there as the backend wants them. */
void ds_model_builder_map(struct ds_model_builder *builder);
bool ds_model_builder_is_mapped(const struct ds_model_builder *builder);

int ds_model_builder_plan(struct ds_model_builder *builder, const struct ds_backend_ops *backend,
			  enum ds_precision precision, struct ds_error *err);

/* The image. Borrowed; laid out after planning. */
struct ds_image_writer *ds_model_builder_image(const struct ds_model_builder *builder);
/* What was said of how the model converses. Borrowed; empty if nothing was. */
struct ds_habits ds_model_builder_habits(const struct ds_model_builder *builder);
const struct ds_file *ds_model_builder_files(const struct ds_model_builder *builder);

/* The tensors in the order in which they were described, which is the order in the image. */
const struct ds_model_tensor *ds_model_builder_tensors(const struct ds_model_builder *builder, uint32_t *n);

/* After planning: the part that holds row @row of @t; what follows it is in the parts after it. */
const struct ds_part *ds_model_tensor_part(const struct ds_model_tensor *t, uint64_t row);

/* Elements of all tensors together. */
uint64_t ds_model_builder_parameters(const struct ds_model_builder *builder);

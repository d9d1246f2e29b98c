/* work.h - what one row of a step costs at least, counted from the tensors of an image: weights read, multiplications. */
#pragma once

#include "image.h"

/* Blocks of multi-token prediction are left out. */
struct ds_work {
	uint64_t parameters;	    /* of the matrices that every row is multiplied with; of experts those that a row chooses */
	uint64_t output_parameters; /* of the matrix that makes logits */
	uint64_t size;		    /* bytes of both, and of norms and biases */
	uint64_t embedding_size;    /* bytes of a row's embedding */
	enum ds_dtype dtype;	    /* that most of the parameters have */
};

struct ds_work ds_work_count(const struct ds_image *image);

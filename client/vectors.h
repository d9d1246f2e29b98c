/* vectors.h - a folder of reference vectors (expected.json and its logits), and how far given logits are from them. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

/* Logits (n_rows, n_vocab) as the reference has them; row i belongs to the token after token i of the input, or to the
 * one after that for the multi-token-prediction block. */
struct ds_reference {
	float *logits;
	size_t n_rows, n_vocab;
	uint32_t *argmax; /* [n_rows] */
};

struct ds_vectors {
	json_t *expected;
	const json_t *input_ids;
	size_t n_tokens;
	struct ds_reference main, mtp; /* mtp without logits: there is none */
	const json_t *greedy;          /* tokens, or NULL */
	const json_t *greedy_gaps;     /* top-1 minus top-2 at each of them, or NULL */
	size_t n_greedy;
};

/* Fill a zeroed @v from @dir. -ENOENT: no expected.json there. -EINVAL: it is not what vectors look like. */
int ds_vectors_read(struct ds_vectors *v, const char *dir, struct ds_error *err);
void ds_vectors_deinit(struct ds_vectors *v);

/* How a count of positions compares. A near tie is a position whose best two logits of the reference are closer than
 * twice the tolerance: there a right implementation may choose either, so it is not counted. */
struct ds_agreement {
	size_t n_counted, n_agreed, n_near_ties;
};

struct ds_comparison {
	double max_difference; /* NaN if any logit is */
	struct ds_agreement argmax, greedy;
	bool holds;
};

/* Compare @logits (n_rows, n_vocab), the rows of @ref. */
void ds_vectors_compare(const struct ds_reference *ref, const float *logits, double tolerance,
			struct ds_comparison *out);
/* Compare the greedy tokens: @logits (n_greedy, n_vocab), the first row being the last of the input. After a near tie
 * taken the other way the texts differ for good reason, and nothing further is counted. */
void ds_vectors_compare_greedy(const struct ds_vectors *v, const float *logits, double tolerance,
			       struct ds_comparison *out);

/* vectors.c - see vectors.h. */
#include "vectors.h"

#include <math.h>
#include <string.h>

#define MAX_FLOATS ((size_t)1 << 32)

void ds_vectors_deinit(struct ds_vectors *v)
{
	struct ds_reference *refs[] = {&v->main, &v->mtp};

	for (size_t i = 0; i < DS_ARRAY_SIZE(refs); i++) {
		free(refs[i]->logits);
		free(refs[i]->argmax);
	}
	json_decref(v->expected);
	*v = (struct ds_vectors){0};
}

/* The largest of a row; the lowest id wins a tie. @gap, if any, becomes its distance to the second. */
static uint32_t find_argmax(const float *row, size_t n, double *gap)
{
	double second = -INFINITY;
	uint32_t best = 0;

	for (size_t i = 1; i < n; i++) {
		if (row[i] > row[best]) {
			second = row[best];
			best = i;
		} else if (row[i] > second) {
			second = row[i];
		}
	}
	if (gap)
		*gap = row[best] - second;
	return best;
}

static int read_floats(const char *dir, const char *name, float *out, size_t n, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *path = NULL;
	size_t got;
	bool more;
	FILE *f;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return ds_fail(err, -ENOMEM, "no memory for the vectors");
	f = fopen(path, "re");
	if (!f)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	got = fread(out, sizeof(*out), n, f);
	more = got == n && fgetc(f) != EOF;
	fclose(f);
	if (got < n || more)
		return ds_fail(err, -EINVAL, "%s: %s than the %zu floats that expected.json says", path,
			       more ? "more" : "fewer", n);
	return 0;
}

/* {"file", "shape": [rows, vocab]} of @block into @ref, and "argmax" beside it. */
static int read_reference(const char *dir, const char *name, const json_t *block, size_t n_rows,
			  struct ds_reference *ref, struct ds_error *err)
{
	const json_t *logits = json_object_get(block, "logits"), *argmax = json_object_get(block, "argmax");
	const char *file = json_string_value(json_object_get(logits, "file"));
	const json_t *shape = json_object_get(logits, "shape");
	json_int_t rows = json_integer_value(json_array_get(shape, 0));
	json_int_t vocab = json_integer_value(json_array_get(shape, 1));
	int r;

	if (!file || strchr(file, '/') || json_array_size(shape) != 2 || rows <= 0 || vocab <= 1 ||
	    (size_t)vocab > MAX_FLOATS / (size_t)rows)
		return ds_fail(err, -EINVAL,
			       "%s/expected.json: %slogits: {\"file\": name, \"shape\": [rows, vocabulary]} is asked",
			       dir, name);
	if ((size_t)rows != n_rows || (argmax && json_array_size(argmax) != n_rows))
		return ds_fail(err, -EINVAL, "%s/expected.json: %slogits: its input_ids make %zu rows, not %lld", dir,
			       name, n_rows, (long long)rows);
	ref->n_rows = n_rows;
	ref->n_vocab = vocab;
	ref->logits = calloc(n_rows * vocab, sizeof(*ref->logits));
	ref->argmax = calloc(n_rows, sizeof(*ref->argmax));
	if (!ref->logits || !ref->argmax)
		return ds_fail(err, -ENOMEM, "no memory for the vectors");
	r = read_floats(dir, file, ref->logits, n_rows * vocab, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_rows; i++)
		ref->argmax[i] = argmax ? (uint32_t)json_integer_value(json_array_get(argmax, i))
					: find_argmax(ref->logits + i * vocab, vocab, NULL);
	return 0;
}

static int read_greedy(struct ds_vectors *v, const char *dir, struct ds_error *err)
{
	const json_t *greedy = json_object_get(v->expected, "greedy");

	if (!greedy)
		return 0;
	v->greedy = json_object_get(greedy, "tokens");
	v->greedy_gaps = json_object_get(greedy, "top1_minus_top2");
	v->n_greedy = json_array_size(v->greedy);
	if (v->n_greedy == 0 || (v->greedy_gaps && json_array_size(v->greedy_gaps) != v->n_greedy))
		return ds_fail(err, -EINVAL,
			       "%s/expected.json: greedy: {\"tokens\": [...], \"top1_minus_top2\": [...]} is asked",
			       dir);
	return 0;
}

int ds_vectors_read(struct ds_vectors *v, const char *dir, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *path = NULL;
	json_error_t where;
	const json_t *mtp;
	int r;

	if (asprintf(&path, "%s/expected.json", dir) < 0)
		return ds_fail(err, -ENOMEM, "no memory for the vectors");
	if (access(path, R_OK) < 0)
		return ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	v->expected = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	if (!v->expected)
		return ds_fail(err, -EINVAL, "%s:%d:%d: %s", path, where.line, where.column, where.text);
	v->input_ids = json_object_get(v->expected, "input_ids");
	v->n_tokens = json_array_size(v->input_ids);
	if (v->n_tokens == 0)
		return ds_fail(err, -EINVAL, "%s: input_ids: a list of tokens is asked", path);
	r = read_reference(dir, "", v->expected, v->n_tokens, &v->main, err);
	if (r < 0)
		return r;
	mtp = json_object_get(v->expected, "mtp");
	if (mtp) {
		r = read_reference(dir, "mtp: ", mtp, v->n_tokens - 1, &v->mtp, err);
		if (r < 0)
			return r;
	}
	return read_greedy(v, dir, err);
}

void ds_vectors_compare(const struct ds_reference *ref, const float *logits, double tolerance,
			struct ds_comparison *out)
{
	*out = (struct ds_comparison){0};
	for (size_t i = 0; i < ref->n_rows * ref->n_vocab; i++) {
		double d = fabs((double)logits[i] - ref->logits[i]);

		/* Written so that NaN, once there, stays. */
		if (!(d <= out->max_difference))
			out->max_difference = isnan(out->max_difference) ? out->max_difference : d;
	}
	for (size_t i = 0; i < ref->n_rows; i++) {
		double gap;

		find_argmax(ref->logits + i * ref->n_vocab, ref->n_vocab, &gap);
		if (gap < 2 * tolerance) {
			out->argmax.n_near_ties++;
			continue;
		}
		out->argmax.n_counted++;
		out->argmax.n_agreed += find_argmax(logits + i * ref->n_vocab, ref->n_vocab, NULL) == ref->argmax[i];
	}
	out->holds = out->max_difference <= tolerance && out->argmax.n_agreed == out->argmax.n_counted;
}

void ds_vectors_compare_greedy(const struct ds_vectors *v, const float *logits, double tolerance,
			       struct ds_comparison *out)
{
	size_t n_vocab = v->main.n_vocab;

	for (size_t i = 0; i < v->n_greedy; i++) {
		uint32_t expected = json_integer_value(json_array_get(v->greedy, i));
		bool agrees = find_argmax(logits + i * n_vocab, n_vocab, NULL) == expected;
		bool near_tie = v->greedy_gaps && json_number_value(json_array_get(v->greedy_gaps, i)) < 2 * tolerance;

		if (near_tie && !agrees) {
			out->greedy.n_near_ties += v->n_greedy - i;
			break;
		}
		out->greedy.n_near_ties += near_tie;
		out->greedy.n_counted += !near_tie;
		out->greedy.n_agreed += !near_tie && agrees;
	}
	out->holds &= out->greedy.n_agreed == out->greedy.n_counted;
}

/* splits.c - a model in one file, or in several that count themselves: split.no of split.count, from 0 on.
 *
 * The files are resolved among those that were handed over: by the number that each says it has, whatever its name. */
#include "gguf.h"

#define SUFFIX ".gguf"

static bool is_gguf(const struct ds_file *file)
{
	size_t size = strlen(file->name);

	return (size > strlen(SUFFIX) && strcmp(file->name + size - strlen(SUFFIX), SUFFIX) == 0) ||
	       ds_gguf_has_magic(file);
}

bool ds_gguf_present(const struct ds_file *files, size_t n_files)
{
	for (size_t i = 0; i < n_files; i++)
		if (is_gguf(&files[i]))
			return true;
	return false;
}

/* One file, which may say that it is the only one of its set. */
static int check_alone(const struct ds_gguf *g, struct ds_error *err)
{
	uint64_t count = 0;
	int r = ds_gguf_count(&g->parts[0], "split.count", 0, UINT16_MAX, &count, err);

	if (r == 0 && count > 1)
		return ds_fail(err, -EINVAL, "%s: is one of %" PRIu64 " files, the others are missing",
			       ds_shown(g->parts[0].source.file->name).text, count);
	return r;
}

/* Read the headers of all files into g->parts, in the order of the files. */
static int read_parts(struct ds_gguf *g, struct ds_error *err)
{
	g->parts = calloc(g->n_files, sizeof(*g->parts));
	if (!g->parts)
		return ds_fail(err, -ENOMEM, "no memory for %u files", g->n_files);
	for (uint32_t i = 0; i < g->n_files; i++) {
		struct ds_gguf_part *part = &g->parts[g->n_parts];
		int r;

		if (!is_gguf(&g->files[i]))
			continue;
		g->n_parts++;
		part->file = i;
		part->source.file = &g->files[i];
		r = ds_gguf_read_header(g, part, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Put the parts of a set into its order. */
static int order_parts(struct ds_gguf *g, struct ds_error *err)
{
	ds_cleanup(ds_freep) struct ds_gguf_part *ordered = calloc(g->n_parts, sizeof(*ordered));

	if (!ordered)
		return ds_fail(err, -ENOMEM, "no memory for %u files", g->n_parts);
	for (uint32_t i = 0; i < g->n_parts; i++) {
		struct ds_gguf_part *part = &g->parts[i];
		struct ds_shown name = ds_shown(part->source.file->name);
		uint64_t no = UINT64_MAX, count = 0;
		int r = ds_gguf_count(part, "split.no", 0, UINT16_MAX, &no, err);

		if (r == 0)
			r = ds_gguf_count(part, "split.count", 0, UINT16_MAX, &count, err);
		if (r < 0)
			return r;
		if (count == 0 || no == UINT64_MAX)
			return ds_fail(err, -EINVAL, "%s: is no part of a set, but there are %u files", name.text,
				       g->n_parts);
		if (count != g->n_parts)
			return ds_fail(err, -EINVAL, "%s: is one of %" PRIu64 " files, but there are %u", name.text,
				       count, g->n_parts);
		if (no >= count || ordered[no].source.file)
			return ds_fail(err, -EINVAL, "%s: split.no is %" PRIu64 ", which %s", name.text, no,
				       no >= count ? "is not below split.count" : "another file of the set has, too");
		ordered[no] = *part;
	}
	memcpy(g->parts, ordered, g->n_parts * sizeof(*ordered));
	return 0;
}

/* Every file of the set tells how many tensors all of them have. */
static int check_total(const struct ds_gguf *g, struct ds_error *err)
{
	for (uint32_t i = 0; i < g->n_parts; i++) {
		const struct ds_gguf_part *part = &g->parts[i];
		uint64_t total = g->n_stored;
		int r = ds_gguf_count(part, "split.tensors.count", 0, INT32_MAX, &total, err);

		if (r < 0)
			return r;
		if (total != g->n_stored)
			return ds_fail(err, -EINVAL, "%s: split.tensors.count is %" PRIu64 ", but the files have %zu",
				       ds_shown(part->source.file->name).text, total, g->n_stored);
	}
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct ds_gguf_stored *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct ds_gguf_stored *)a)->name, ((const struct ds_gguf_stored *)b)->name);
}

static int check_tensors(struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_gguf_stored *t;

	qsort(g->stored, g->n_stored, sizeof(*g->stored), by_place);
	for (size_t i = 1; i < g->n_stored; i++) {
		t = &g->stored[i];
		if (t[-1].file == t->file && t->offset - t[-1].offset < t[-1].size)
			return ds_fail(err, -EINVAL, "%s: tensors %s and %s overlap",
				       ds_shown(g->files[t->file].name).text, t[-1].name, t->name);
	}
	qsort(g->stored, g->n_stored, sizeof(*g->stored), by_name);
	for (size_t i = 1; i < g->n_stored; i++) {
		t = &g->stored[i];
		if (strcmp(t[-1].name, t->name) == 0)
			return ds_fail(err, -EINVAL, "%s: tensor %s is there twice",
				       ds_shown(g->files[t->file].name).text, t->name);
	}
	return 0;
}

int ds_gguf_read_files(struct ds_gguf *g, struct ds_error *err)
{
	int r = read_parts(g, err);

	if (r == 0)
		r = g->n_parts == 1 ? check_alone(g, err) : order_parts(g, err);
	if (r == 0 && g->n_parts > 1)
		r = check_total(g, err);
	return r < 0 ? r : check_tensors(g, err);
}

const struct ds_gguf_stored *ds_gguf_find(const struct ds_gguf *g, const char *name)
{
	size_t low = 0, high = g->n_stored;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(g->stored[middle].name, name);

		if (order == 0)
			return &g->stored[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

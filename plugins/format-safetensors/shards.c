/* shards.c - all tensors of a checkpoint, whether it is one file or many.
 *
 * With model.safetensors.index.json the shards are those it names, found among the files by their base names alone;
 * without it they are all .safetensors files. Afterwards the table is sorted by name and no name is there twice. */
#include "checkpoint.h"

#define INDEX "model.safetensors.index.json"

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct ds_stored *)a)->name, ((const struct ds_stored *)b)->name);
}

const struct ds_stored *ds_shards_find(const struct ds_checkpoint *c, const char *name)
{
	struct ds_stored key = {.name = (char *)name};

	return c->n_stored ? bsearch(&key, c->stored, c->n_stored, sizeof(key), by_name) : NULL;
}

static bool is_shard(const struct ds_file *file)
{
	static const char suffix[] = ".safetensors";
	size_t n = strlen(file->name);

	return n >= sizeof(suffix) && strcmp(file->name + n - (sizeof(suffix) - 1), suffix) == 0;
}

/* A tokenizer.json among nothing but JSON is a vocabulary at least. */
bool ds_shards_present(const struct ds_file *files, size_t n_files)
{
	bool words = false, others = false;

	for (size_t i = 0; i < n_files; i++) {
		const char *dot = strrchr(files[i].name, '.');

		if (is_shard(&files[i]))
			return true;
		words = words || strcmp(files[i].name, "tokenizer.json") == 0;
		others = others || !dot || (strcmp(dot, ".json") != 0 && strcmp(dot, ".jinja") != 0);
	}
	return words && !others;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Mark in @wanted the files that the index names. */
static int choose(bool *wanted, const struct ds_checkpoint *c, const json_t *map, struct ds_error *err)
{
	const char *tensor;
	json_t *value;

	json_object_foreach ((json_t *)map, tensor, value) {
		const struct ds_file *file;

		if (!json_is_string(value))
			return ds_fail(err, -EINVAL, INDEX ": weight_map: the file of %s should be a text",
				       ds_shown(tensor).text);
		file = ds_file_find(c, base_name(json_string_value(value)));
		if (!file)
			return ds_fail(err, -EINVAL, INDEX ": the shard %s, which it names, is missing",
				       ds_shown(json_string_value(value)).text);
		wanted[file - c->files] = true;
	}
	return 0;
}

/* Every tensor of the index must be where it says. */
static int check_map(const struct ds_checkpoint *c, const json_t *map, struct ds_error *err)
{
	const char *tensor;
	json_t *value;

	json_object_foreach ((json_t *)map, tensor, value) {
		const char *file = base_name(json_string_value(value));
		const struct ds_stored *t = ds_shards_find(c, tensor);

		if (!t || strcmp(c->files[t->file].name, file) != 0)
			return ds_fail(err, -EINVAL, INDEX ": tensor %s should be in %s, but is not",
				       ds_shown(tensor).text, ds_shown(file).text);
	}
	return 0;
}

static int sort(struct ds_checkpoint *c, struct ds_error *err)
{
	if (c->n_stored == 0)
		return ds_fail(err, -EINVAL, "the .safetensors files hold no tensor");
	qsort(c->stored, c->n_stored, sizeof(*c->stored), by_name);
	for (size_t i = 1; i < c->n_stored; i++)
		if (strcmp(c->stored[i - 1].name, c->stored[i].name) == 0)
			return ds_fail(err, -EINVAL, "tensor %s is in both %s and %s", ds_shown(c->stored[i].name).text,
				       ds_shown(c->files[c->stored[i - 1].file].name).text,
				       ds_shown(c->files[c->stored[i].file].name).text);
	return 0;
}

int ds_shards_read(struct ds_checkpoint *c, struct ds_error *err)
{
	ds_cleanup(ds_freep) bool *wanted = NULL;
	json_auto_t *index = NULL;
	const json_t *map = NULL;
	int r;

	wanted = calloc(c->n_files, sizeof(*wanted));
	if (!wanted)
		return ds_fail(err, -ENOMEM, "no memory for the list of shards");
	r = ds_json_load(&index, c, INDEX, 0, err);
	if (r < 0)
		return r;
	r = ds_json_object(&map, index, INDEX, "weight_map", err);
	if (r < 0)
		return r;
	if (index && !map)
		return ds_fail(err, -EINVAL, INDEX ": weight_map is missing");
	r = choose(wanted, c, map, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < c->n_files; i++) {
		if (index ? !wanted[i] : !is_shard(&c->files[i]))
			continue;
		r = ds_header_read(c, i, err);
		if (r < 0)
			return r;
	}
	r = sort(c, err);
	if (r < 0)
		return r;
	return check_map(c, map, err);
}

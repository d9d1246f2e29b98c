/* plugin-check.c - the table of kinds: what an operation table of each must have before anybody calls through it. */
#include "plugin-check.h"

#include <deepseekd/backend.h>
#include <deepseekd/dialect.h>
#include <deepseekd/format.h>
#include <deepseekd/sampler.h>
#include <deepseekd/tokenizer.h>

#include <string.h>

/* A function that an operation table must have. All function pointers look alike (POSIX, for dlsym). */
struct needed {
	const char *name;
	size_t offset;
};

/* clang-format off */
#define NEED(noun, member) {#member, offsetof(struct ds_##noun##_ops, member)}

static const struct needed format_needs[] = {NEED(format, recognizes), NEED(format, describe), {NULL, 0}};

static const struct needed tokenizer_needs[] = {
	NEED(tokenizer, open), NEED(tokenizer, encode), NEED(tokenizer, token_text), NEED(tokenizer, detokenize),
	NEED(tokenizer, finish), NEED(tokenizer, close),
	{NULL, 0},
};

static const struct needed backend_needs[] = {
	NEED(backend, plan), NEED(backend, pack), NEED(backend, identity), NEED(backend, open), NEED(backend, start),
	NEED(backend, close), NEED(backend, map), NEED(backend, alloc), NEED(backend, release), NEED(backend, write),
	NEED(backend, read), NEED(backend, sync), NEED(backend, embed), NEED(backend, rms_norm), NEED(backend, matmul),
	NEED(backend, head_matmul), NEED(backend, expert_matmul), NEED(backend, expert_sum), NEED(backend, route),
	NEED(backend, rope), NEED(backend, kv_store), NEED(backend, latent_attention), NEED(backend, swiglu),
	NEED(backend, gather), NEED(backend, attention), NEED(backend, add_bias),
	{NULL, 0},
};

static const struct needed sampler_needs[] = {
	NEED(sampler, active), NEED(sampler, open), NEED(sampler, apply), NEED(sampler, close),
	{NULL, 0},
};

static const struct needed dialect_needs[] = {
	NEED(dialect, render), NEED(dialect, open), NEED(dialect, feed), NEED(dialect, finish), NEED(dialect, close),
	{NULL, 0},
};
/* clang-format on */

static const struct kind {
	const char *name;
	size_t ops_size; /* up to the last operation that is needed */
	const struct needed *needs;
} kinds[] = {
	[DS_PLUGIN_FORMAT] = {"format", sizeof(struct ds_format_ops), format_needs},
	[DS_PLUGIN_TOKENIZER] = {"tokenizer", sizeof(struct ds_tokenizer_ops), tokenizer_needs},
	[DS_PLUGIN_BACKEND] = {"backend", offsetof(struct ds_backend_ops, peak), backend_needs},
	[DS_PLUGIN_SAMPLER] = {"sampler", sizeof(struct ds_sampler_ops), sampler_needs},
	[DS_PLUGIN_DIALECT] = {"dialect", sizeof(struct ds_dialect_ops), dialect_needs},
};

const char *ds_plugin_kind_name(uint32_t kind)
{
	return kind < DS_ARRAY_SIZE(kinds) ? kinds[kind].name : NULL;
}

const struct ds_entry *ds_plugin_entry(const struct ds_plugin *plugin, const char *name)
{
	for (const struct ds_entry *e = plugin->entries; e && e->name; e++)
		if (strcmp(e->name, name) == 0)
			return e;
	return NULL;
}

const struct ds_option *ds_plugin_option(const struct ds_plugin *plugin, const char *name)
{
	for (const struct ds_option *o = plugin->options; o && o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

static int check_options(const struct ds_plugin *plugin, struct ds_error *err)
{
	for (const struct ds_option *o = plugin->options; o && o->name; o++) {
		bool number = o->type == DS_OPTION_INT || o->type == DS_OPTION_FLOAT;

		if (o->type > DS_OPTION_TEXT || !o->help)
			return ds_fail(err, -EINVAL, "option %s has an unknown type or no help", o->name);
		if (o->type == DS_OPTION_TEXT && !o->text)
			return ds_fail(err, -EINVAL, "option %s has no default", o->name);
		if (number && !(o->min <= o->value && o->value <= o->max))
			return ds_fail(err, -EINVAL, "the default of option %s, %g, is not from %g to %g", o->name,
				       o->value, o->min, o->max);
	}
	return 0;
}

static int check_ops(const struct kind *kind, const struct ds_entry *entry, struct ds_error *err)
{
	const char *ops = entry->ops;
	size_t size;

	if (!entry->summary || !ops)
		return ds_fail(err, -EINVAL, "entry %s has no %s", entry->name, ops ? "summary" : "operations");
	memcpy(&size, ops, sizeof(size));
	if (size < kind->ops_size)
		return ds_fail(err, -EINVAL, "the operations of entry %s have %zu bytes, a %s needs %zu", entry->name,
			       size, kind->name, kind->ops_size);
	for (const struct needed *n = kind->needs; n->name; n++) {
		void (*function)(void);

		memcpy(&function, ops + n->offset, sizeof(function));
		if (!function)
			return ds_fail(err, -EINVAL, "entry %s has no operation %s", entry->name, n->name);
	}
	return 0;
}

static bool has_vector(const struct ds_plugin *plugin, const char *entry)
{
	for (const struct ds_vector *v = plugin->vectors; v && v->name; v++)
		if (strcmp(v->entry, entry) == 0)
			return true;
	return false;
}

static int check_vectors(const struct ds_plugin *plugin, struct ds_error *err)
{
	for (const struct ds_vector *v = plugin->vectors; v && v->name; v++) {
		if (!v->entry || !v->input || !v->output)
			return ds_fail(err, -EINVAL, "vector \"%s\" is incomplete", v->name);
		if (!ds_plugin_entry(plugin, v->entry))
			return ds_fail(err, -EINVAL, "vector \"%s\" is for entry %s, which there is not", v->name,
				       v->entry);
	}
	return 0;
}

int ds_plugin_check(const struct ds_plugin *plugin, const char *name, struct ds_error *err)
{
	int r;

	if (!ds_plugin_kind_name(plugin->kind))
		return ds_fail(err, -EINVAL, "of an unknown kind: %u", plugin->kind);
	if (!plugin->name || !plugin->version || !plugin->summary)
		return ds_fail(err, -EINVAL, "without a name, version or summary");
	if (strcmp(plugin->name, name) != 0)
		return ds_fail(err, -EINVAL, "the plugin is named %s, the file %s.so", plugin->name, name);
	if (!plugin->entries || !plugin->entries->name)
		return ds_fail(err, -EINVAL, "without any entry");
	r = check_options(plugin, err);
	if (r < 0)
		return r;
	r = check_vectors(plugin, err);
	for (const struct ds_entry *e = plugin->entries; r == 0 && e->name; e++) {
		r = check_ops(&kinds[plugin->kind], e, err);
		if (r == 0 && !has_vector(plugin, e->name))
			r = ds_fail(err, -EINVAL, "entry %s has no vector", e->name);
	}
	return r;
}

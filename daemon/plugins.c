/* plugins.c - asks ds-loader what the configured plugins offer. */
#include "plugins.h"

#include <string.h>

#define TEXT_MAX (4u << 20)

struct ds_description {
	void (*done)(void *arg, json_t *catalog, const char *reason);
	void *arg;
	char *text;
	size_t size;
	bool too_long;
};

static void on_output(void *arg, const char *text, size_t text_size)
{
	struct ds_description *d = arg;
	char *longer;

	if (text_size == 0 || d->too_long)
		return;
	longer = d->size + text_size <= TEXT_MAX ? realloc(d->text, d->size + text_size) : NULL;
	if (!longer) {
		d->too_long = true;
		return;
	}
	d->text = longer;
	memcpy(d->text + d->size, text, text_size);
	d->size += text_size;
}

static void on_end(void *arg, bool clean, const char *reason)
{
	struct ds_description *d = arg;
	json_t *catalog = clean && !d->too_long ? json_loadb(d->text ? d->text : "", d->size, 0, NULL) : NULL;

	if (clean && !json_is_array(catalog)) {
		json_decref(catalog);
		catalog = NULL;
		reason = "ds-loader --describe-plugins did not write a JSON array";
	}
	d->done(d->arg, catalog, reason);
	free(d->text);
	free(d);
}

static const struct ds_helper_events events = {.on_exit = on_end, .on_output = on_output};

int ds_plugins_ask(struct ds_helpers *helpers, const struct ds_models *models, const struct ds_config *config,
		   void (*done)(void *arg, json_t *catalog, const char *reason), void *arg, struct ds_error *err)
{
	ds_cleanup(ds_freep) const char **argv = ds_models_argv(models, config, "ds-loader", "--describe-plugins");
	struct ds_description *d = calloc(1, sizeof(*d));
	struct ds_helper *helper;
	int r;

	if (!argv || !d) {
		free(d);
		return ds_fail(err, -ENOMEM, "no memory");
	}
	*d = (struct ds_description){.done = done, .arg = arg};
	r = ds_helper_start(&helper, helpers, argv, &events, d, err);
	if (r < 0)
		free(d);
	return r;
}

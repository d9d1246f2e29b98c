/* loading.c - speaks with one ds-loader. */
#include "loading.h"
#include "files.h"
#include "images.h"
#include "log.h"

#include <string.h>

#define JSON_MAX (1u << 20) /* what a loader has to say is short */

enum phase {
	PHASE_PLANNING = 1 << 0,
	PHASE_WRITING = 1 << 1,
	PHASE_LOADED = 1 << 2,
	PHASE_FAILED = 1 << 3,
};

struct ds_loading {
	struct ds_helper *helper;
	const struct ds_loading_events *events;
	void *arg;
	char *name;
	enum phase phase;
	int image; /* writable, until it is sealed */
	json_t *loaded;
	struct ds_files files; /* what the loader got */
	struct ds_mapped *mapped;
	char reason[512]; /* why it failed, as the loader or the broker said */
};

static struct ds_loading *free_loading(struct ds_loading *l)
{
	if (l->image >= 0)
		close(l->image);
	json_decref(l->loaded);
	ds_files_deinit(&l->files);
	ds_mapped_free(l->mapped);
	free(l->name);
	free(l);
	return NULL;
}

static void fail(struct ds_loading *l, const char *reason)
{
	l->phase = PHASE_FAILED;
	if (!l->reason[0])
		snprintf(l->reason, sizeof(l->reason), "%s", reason);
}

static int on_plan(struct ds_loading *l, struct ds_message *m, struct ds_error *err)
{
	struct ds_plan plan;
	struct ds_error refusal;
	int r;

	if (m->size != sizeof(plan))
		return ds_fail(err, -EPROTO, "a plan of %u bytes", m->size);
	memcpy(&plan, m->data, sizeof(plan));
	if (plan.mapped_size > plan.weights_size || plan.image_size < plan.weights_size - plan.mapped_size ||
	    plan.image_size > (1ull << 50) || plan.context == 0 || plan.context > UINT32_MAX)
		return ds_fail(err, -EPROTO, "a plan that contradicts itself");
	r = l->events->on_plan(l->arg, &plan, &refusal);
	if (r == 0)
		r = l->image = ds_images_create(l->name, plan.image_size, &refusal);
	if (r < 0) {
		fail(l, refusal.text);
		ds_helper_kill(l->helper, "its plan was refused");
		return 0;
	}
	l->phase = PHASE_WRITING;
	ds_helper_send(l->helper, DS_MSG_GO, 0, NULL, 0, &l->image, 1);
	return 0;
}

static int on_progress(struct ds_loading *l, struct ds_message *m, struct ds_error *err)
{
	struct ds_progress progress;

	if (m->size != sizeof(progress))
		return ds_fail(err, -EPROTO, "a progress of %u bytes", m->size);
	memcpy(&progress, m->data, sizeof(progress));
	l->events->on_progress(l->arg, progress.done, progress.total);
	return 0;
}

static int on_loaded(struct ds_loading *l, struct ds_message *m, struct ds_error *err)
{
	l->loaded = json_loadb((const char *)m->data, m->size, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(l->loaded))
		return ds_fail(err, -EPROTO, "LOADED is not a JSON object");
	l->phase = PHASE_LOADED;
	ds_helper_expect_end(l->helper);
	if (json_array_size(json_object_get(l->loaded, "files")) > 0)
		return ds_mapped_new(&l->mapped, &l->files, json_object_get(l->loaded, "files"), err);
	return 0;
}

static int on_failed(struct ds_loading *l, struct ds_message *m, struct ds_error *err)
{
	json_t *json = json_loadb((const char *)m->data, m->size, 0, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));

	if (message)
		fail(l, message);
	json_decref(json);
	ds_helper_expect_end(l->helper);
	return message ? 0 : ds_fail(err, -EPROTO, "FAILED without a message");
}

static const struct {
	uint16_t type;
	unsigned phases;
	int (*take)(struct ds_loading *l, struct ds_message *m, struct ds_error *err);
} messages[] = {
	{DS_MSG_PLAN, PHASE_PLANNING, on_plan},
	{DS_MSG_PROGRESS, PHASE_WRITING, on_progress},
	{DS_MSG_LOADED, PHASE_WRITING, on_loaded},
	{DS_MSG_FAILED, PHASE_PLANNING | PHASE_WRITING, on_failed},
};

static int on_message(void *arg, struct ds_message *m, struct ds_error *err)
{
	struct ds_loading *l = arg;

	if (l->phase == PHASE_FAILED) /* it may have been speaking when it was refused */
		return 0;
	if (m->size > JSON_MAX)
		return ds_fail(err, -EPROTO, "message %u of %u bytes", m->type, m->size);
	for (size_t i = 0; i < DS_ARRAY_SIZE(messages); i++)
		if (messages[i].type == m->type && messages[i].phases & l->phase)
			return messages[i].take(l, m, err);
	return ds_fail(err, -EPROTO, "message %u does not belong here", m->type);
}

static void on_exit_(void *arg, bool clean, const char *reason)
{
	struct ds_loading *l = arg;
	struct ds_error err;
	int image = -1;

	if (l->phase == PHASE_LOADED && clean)
		image = ds_images_seal(l->image, &err);
	else
		snprintf(err.text, sizeof(err.text), "%.255s", l->reason[0] ? l->reason : reason);
	if (image < 0)
		l->events->on_end(l->arg, -1, NULL, NULL, l->reason[0] ? l->reason : err.text);
	else
		l->events->on_end(l->arg, image, l->loaded, ds_steal(&l->mapped), NULL);
	free_loading(l);
}

static const struct ds_helper_events helper_events = {.on_message = on_message, .on_exit = on_exit_};

/* Send a JSON payload. */
static int send_json(struct ds_loading *l, uint16_t type, const json_t *json, const int *fds, unsigned n_fds)
{
	ds_cleanup(ds_freep) char *text = json_dumps(json, JSON_COMPACT);

	if (!text)
		return -ENOMEM;
	ds_helper_send(l->helper, type, 0, text, strlen(text), fds, n_fds);
	return 0;
}

static int send_files(struct ds_loading *l, const struct ds_files *files)
{
	int r = 0;

	for (size_t i = 0; i < files->n && r == 0; i += DS_MESSAGE_FDS) {
		size_t n = files->n - i < DS_MESSAGE_FDS ? files->n - i : DS_MESSAGE_FDS;
		json_t *names = json_array(), *json;

		for (size_t j = 0; j < n; j++)
			json_array_append_new(names, json_string(files->names[i + j]));
		json = json_pack("{s:o}", "names", names);
		/* A name that is not UTF-8 would be missing, and then names and descriptors would not match. */
		r = json_array_size(names) == n ? send_json(l, DS_MSG_FILES, json, files->fds + i, (unsigned)n)
						: -EILSEQ;
		json_decref(json);
	}
	return r;
}

int ds_loading_start(struct ds_loading **out, struct ds_helpers *helpers, const struct ds_loading_spec *spec,
		     const struct ds_loading_events *events, void *arg, struct ds_error *err)
{
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};
	struct ds_loading *l;
	int r;

	r = ds_files_open(&files, spec->path, err);
	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return ds_fail(err, -ENOMEM, "no memory");
	*l = (struct ds_loading){.events = events, .arg = arg, .phase = PHASE_PLANNING, .image = -1};
	l->name = strdup(spec->name);
	r = l->name ? ds_helper_start(&l->helper, helpers, spec->argv, &helper_events, l, err)
		    : ds_fail(err, -ENOMEM, "no memory");
	if (r < 0) {
		free_loading(l);
		return r;
	}
	l->files = files;
	files = (struct ds_files){0};
	r = send_files(l, &l->files);
	if (r == 0)
		r = send_json(l, DS_MSG_LOAD, spec->load, NULL, 0);
	if (r < 0) /* the loader is there: what went wrong shows as its end */
		ds_loading_cancel(l, r == -EILSEQ ? "a file's name is not UTF-8" : "no memory");
	*out = l;
	return 0;
}

void ds_loading_cancel(struct ds_loading *l, const char *reason)
{
	fail(l, reason);
	ds_helper_kill(l->helper, reason);
}

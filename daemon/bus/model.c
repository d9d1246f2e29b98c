/* model.c - org.deepseekd1.Model: each registered model is an object, for everybody to see.
 *
 * What the bus was told last is remembered, so that PropertiesChanged names what is different and nothing else. Changes
 * are gathered until the event loop's next turn; of a model that loads, progress is told four times a second. */
#include "parts.h"

#include <event2/event.h>
#include <string.h>

#define PROGRESS_US 250000

struct ds_bus_known_model {
	struct ds_bus_known_model *next;
	bool is_registered;
	char *path;
	json_t *told; /* by ds_model_describe() */
};

/* Property, its type, its key in ds_model_describe(), and when it changes. */
#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define EMITS SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define POLLED 0
#define PROPERTIES(X)                                                                                                  \
	X("Name", "s", "name", CONST)                                                                                  \
	X("Aliases", "as", "aliases", EMITS)                                                                           \
	X("State", "s", "state", EMITS)                                                                                \
	X("StateReason", "s", "reason", EMITS)                                                                         \
	X("Warning", "s", "warning", EMITS) \
	X("Progress", "(tt)", "progress", EMITS)                                                                       \
	X("Capabilities", "as", "capabilities", EMITS)                                                                 \
	X("Architecture", "s", "architecture", EMITS)                                                                  \
	X("Dialect", "s", "dialect", EMITS)                                                                            \
	X("Context", "t", "context", EMITS)                                                                            \
	X("Parameters", "t", "parameters", EMITS)                                                                      \
	X("ImageSize", "t", "image_size", EMITS)                                                                       \
	X("MappedSize", "t", "mapped_size", EMITS)                                                                     \
	X("CacheTokens", "t", "kv_tokens", EMITS)                                                                      \
	X("Loads", "t", "loads", POLLED)                                                                               \
	X("EngineStarts", "t", "engine_starts", POLLED)

static const struct property {
	const char *name, *type, *key;
	uint64_t change;
} properties[] = {
#define X(name, type, key, change) {name, type, key, change},
	PROPERTIES(X)
#undef X
};

static json_t *describe(const struct ds_model *model)
{
	return ds_model_describe(model, 0);
}

static int append_texts(sd_bus_message *m, const json_t *list)
{
	const json_t *text;
	size_t i;
	int e = sd_bus_message_open_container(m, 'a', "s");

	json_array_foreach (list, i, text)
		if (e >= 0 && json_is_string(text))
			e = sd_bus_message_append(m, "s", json_string_value(text));
	return e < 0 ? e : sd_bus_message_close_container(m);
}

/* What is not known, of a model that is not loaded, is empty or 0. */
static int append_value(sd_bus_message *m, const struct property *p, const json_t *described)
{
	const json_t *value = json_object_get(described, p->key);
	const char *text = json_string_value(value);

	if (!strcmp(p->type, "s"))
		return sd_bus_message_append(m, "s", text ? text : "");
	if (!strcmp(p->type, "as"))
		return append_texts(m, value);
	if (!strcmp(p->type, "(tt)"))
		return sd_bus_message_append(m, "(tt)", (uint64_t)json_integer_value(json_object_get(value, "done")),
					     (uint64_t)json_integer_value(json_object_get(value, "total")));
	return sd_bus_message_append(m, "t", (uint64_t)json_integer_value(value));
}

static int append_property(sd_bus_message *m, const struct property *p, const json_t *described)
{
	int e = sd_bus_message_open_container(m, 'e', "sv");

	if (e >= 0)
		e = sd_bus_message_append(m, "s", p->name);
	if (e >= 0)
		e = sd_bus_message_open_container(m, 'v', p->type);
	if (e >= 0)
		e = append_value(m, p, described);
	if (e >= 0)
		e = sd_bus_message_close_container(m);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

/* The model whose object is @path, or NULL. */
static struct ds_model *at_path(const struct ds_bus *bus, const char *path)
{
	ds_cleanup(ds_freep) char *name = NULL;
	struct ds_model *model = NULL;

	if (sd_bus_path_decode(path, DS_BUS_MODEL_PATH, &name) <= 0)
		return NULL;
	while ((model = ds_models_next(bus->spec.daemon->models, model)))
		if (!strcmp(ds_model_get_config(model)->name, name))
			break;
	return model;
}

static int get(sd_bus *b, const char *path, const char *interface, const char *name, sd_bus_message *reply,
	       void *userdata, sd_bus_error *error)
{
	const struct ds_model *model = at_path(userdata, path);
	ds_cleanup(json_decrefp) json_t *described = model ? describe(model) : NULL;

	for (size_t i = 0; described && i < DS_ARRAY_SIZE(properties); i++)
		if (!strcmp(properties[i].name, name))
			return append_value(reply, &properties[i], described);
	return -ENOMEM;
}

/* Loading and unloading */

struct settling {
	struct ds_bus *bus;
	sd_bus_message *message; /* referenced */
	struct ds_model *model;  /* likewise */
	bool load;
};

static void on_settled(void *arg)
{
	struct settling *s = arg;
	enum ds_model_state state = ds_model_get_state(s->model);

	if (!s->load || state == DS_MODEL_READY)
		sd_bus_reply_method_return(s->message, "");
	else if (state == DS_MODEL_FAILED)
		ds_bus_refuse(s->message, DS_BUS_LOAD_FAILED, "the model cannot be loaded: %s",
			      ds_model_get_reason(s->model));
	else
		ds_bus_refuse(s->message, DS_BUS_CANCELLED, "the model was unloaded while it was loading");
	ds_bus_flush(s->bus);
	sd_bus_message_unref(s->message);
	ds_model_unref(s->model);
	free(s);
}

static int settle(struct ds_bus *bus, sd_bus_message *m, const char *name, bool load)
{
	struct ds_model *model = ds_models_find(bus->spec.daemon->models, name);
	enum ds_model_state state;
	struct settling *s;

	if (!model)
		return ds_bus_refuse(m, DS_BUS_NO_SUCH_MODEL, "there is no model \"%.200s\"", name);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct settling){
		.bus = bus, .message = sd_bus_message_ref(m), .model = ds_model_ref(model), .load = load};
	if (load)
		ds_model_load(model, true);
	else
		ds_model_unload(model);
	state = ds_model_get_state(model);
	if ((state != DS_MODEL_LOADING && state != DS_MODEL_UNLOADING) || !ds_model_wait(model, on_settled, s))
		on_settled(s);
	return 1;
}

int ds_bus_model_load(struct ds_bus *bus, sd_bus_message *m, const char *name)
{
	return settle(bus, m, name, true);
}

int ds_bus_model_unload(struct ds_bus *bus, sd_bus_message *m, const char *name)
{
	return settle(bus, m, name, false);
}

/* The model may have gone while it was asked who calls. */
static int settle_path(struct ds_bus *bus, sd_bus_message *m, bool load)
{
	const struct ds_model *model = at_path(bus, sd_bus_message_get_path(m));

	if (!model)
		return ds_bus_refuse(m, SD_BUS_ERROR_UNKNOWN_OBJECT, "the model is no longer registered");
	return settle(bus, m, ds_model_get_config(model)->name, load);
}

static int load(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	return settle_path(bus, m, true);
}

static int unload(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	return settle_path(bus, m, false);
}

static int with_access(struct ds_bus *bus, sd_bus_message *m, ds_bus_then_fn *then)
{
	const struct ds_model *model = at_path(bus, sd_bus_message_get_path(m));
	const char *details[] = {"model", model ? ds_model_get_config(model)->name : "", NULL};

	return ds_bus_with_access(bus, m, DS_ACTION_LOAD_UNLOAD, details, then);
}

static int method_load(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return with_access(userdata, m, load);
}

static int method_unload(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return with_access(userdata, m, unload);
}

/* Described in share/dbus-1/interfaces/org.deepseekd1.Model.xml. */
const sd_bus_vtable ds_bus_model[] = {
	SD_BUS_VTABLE_START(0),
#define X(name, type, key, change) SD_BUS_PROPERTY(name, type, get, 0, change),
	PROPERTIES(X)
#undef X
		SD_BUS_METHOD("Load", "", "", method_load, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Unload", "", "", method_unload, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

/* The objects */

static int find_object(sd_bus *b, const char *path, const char *interface, void *userdata, void **found,
		       sd_bus_error *error)
{
	*found = userdata;
	return at_path(userdata, path) ? 1 : 0;
}

static int list_objects(sd_bus *b, const char *prefix, void *userdata, char ***nodes, sd_bus_error *error)
{
	const struct ds_bus *bus = userdata;
	size_t n = 0, i = 0;
	char **list;

	for (const struct ds_bus_known_model *k = bus->models; k; k = k->next)
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (const struct ds_bus_known_model *k = bus->models; k; k = k->next)
		if ((list[i] = strdup(k->path)))
			i++;
	*nodes = list; /* sd-bus frees it */
	return 1;
}

static int append_model(sd_bus_message *m, const struct ds_bus_known_model *known, const json_t *described)
{
	int e = sd_bus_message_open_container(m, 'e', "oa{sa{sv}}");

	if (e >= 0)
		e = sd_bus_message_append(m, "o", known->path);
	if (e >= 0)
		e = sd_bus_message_open_container(m, 'a', "{sa{sv}}");
	if (e >= 0)
		e = sd_bus_message_open_container(m, 'e', "sa{sv}");
	if (e >= 0)
		e = sd_bus_message_append(m, "s", DS_BUS_MODEL);
	if (e >= 0)
		e = sd_bus_message_open_container(m, 'a', "{sv}");
	for (size_t i = 0; e >= 0 && i < DS_ARRAY_SIZE(properties); i++)
		e = append_property(m, &properties[i], described);
	for (int i = 0; e >= 0 && i < 4; i++)
		e = sd_bus_message_close_container(m);
	return e;
}

int ds_bus_models_append(struct ds_bus *bus, sd_bus_message *m)
{
	int e = 0;

	for (const struct ds_bus_known_model *k = bus->models; e >= 0 && k; k = k->next) {
		const struct ds_model *model = at_path(bus, k->path);
		ds_cleanup(json_decrefp) json_t *described = model ? describe(model) : NULL;

		if (described)
			e = append_model(m, k, described);
	}
	return e;
}

/* Telling of changes */

static void free_known(struct ds_bus_known_model *known)
{
	json_decref(known->told);
	free(known->path);
	free(known);
}

static void add_known(struct ds_bus *bus, const struct ds_model *model)
{
	struct ds_bus_known_model *known = calloc(1, sizeof(*known)), **at = &bus->models;

	if (!known)
		return;
	known->is_registered = true;
	known->told = describe(model);
	if (!known->told || sd_bus_path_encode(DS_BUS_MODEL_PATH, ds_model_get_config(model)->name, &known->path) < 0) {
		free_known(known);
		return;
	}
	while (*at)
		at = &(*at)->next;
	*at = known;
	sd_bus_emit_interfaces_added(bus->bus, known->path, DS_BUS_MODEL, NULL);
}

static void tell_changes(struct ds_bus *bus, struct ds_bus_known_model *known, const struct ds_model *model)
{
	json_t *now = describe(model);
	char *changed[DS_ARRAY_SIZE(properties) + 1];
	size_t n = 0;

	if (!now)
		return;
	for (size_t i = 0; i < DS_ARRAY_SIZE(properties); i++) {
		const struct property *p = &properties[i];

		if (p->change == EMITS &&
		    !json_equal(json_object_get(now, p->key), json_object_get(known->told, p->key)))
			changed[n++] = (char *)(uintptr_t)p->name;
	}
	changed[n] = NULL;
	if (n > 0)
		sd_bus_emit_properties_changed_strv(bus->bus, known->path, DS_BUS_MODEL, changed);
	json_decref(known->told);
	known->told = now;
}

static void remove_vanished(struct ds_bus *bus)
{
	for (struct ds_bus_known_model **at = &bus->models; *at;) {
		struct ds_bus_known_model *known = *at;

		if (known->is_registered) {
			at = &known->next;
			continue;
		}
		sd_bus_emit_interfaces_removed(bus->bus, known->path, DS_BUS_MODEL, NULL);
		*at = known->next;
		free_known(known);
	}
}

static void update(evutil_socket_t fd, short what, void *arg)
{
	struct ds_bus *bus = arg;
	bool loading = false;

	for (struct ds_bus_known_model *k = bus->models; k; k = k->next) {
		const struct ds_model *model = at_path(bus, k->path);

		k->is_registered = model;
		if (model)
			tell_changes(bus, k, model);
	}
	remove_vanished(bus);
	for (struct ds_model *model = NULL; (model = ds_models_next(bus->spec.daemon->models, model));) {
		ds_cleanup(ds_freep) char *path = NULL;
		struct ds_bus_known_model *k = bus->models;

		loading = loading || ds_model_get_state(model) == DS_MODEL_LOADING;
		if (sd_bus_path_encode(DS_BUS_MODEL_PATH, ds_model_get_config(model)->name, &path) < 0)
			continue;
		while (k && strcmp(k->path, path))
			k = k->next;
		if (!k)
			add_known(bus, model);
	}
	if (loading)
		event_add(bus->models_timer, &(struct timeval){.tv_usec = PROGRESS_US});
	ds_bus_flush(bus);
}

/* The registry or a model of it has changed: look in the next turn. */
static void on_change(void *arg)
{
	struct ds_bus *bus = arg;

	event_add(bus->models_timer, &(struct timeval){0});
}

int ds_bus_models_new(struct ds_bus *bus)
{
	int r = sd_bus_add_fallback_vtable(bus->bus, NULL, DS_BUS_MODEL_PATH, DS_BUS_MODEL, ds_bus_model, find_object,
					   bus);

	if (r >= 0)
		r = sd_bus_add_node_enumerator(bus->bus, NULL, DS_BUS_MODEL_PATH, list_objects, bus);
	if (r < 0)
		return r;
	bus->models_timer = evtimer_new(bus->spec.daemon->base, update, bus);
	if (!bus->models_timer)
		return -ENOMEM;
	ds_models_observe(bus->spec.daemon->models, on_change, bus);
	for (struct ds_model *model = NULL; (model = ds_models_next(bus->spec.daemon->models, model));)
		add_known(bus, model);
	return 0;
}

void ds_bus_models_free(struct ds_bus *bus)
{
	struct ds_bus_known_model *next;

	if (bus->models_timer) {
		ds_models_observe(bus->spec.daemon->models, NULL, NULL);
		event_free(bus->models_timer);
	}
	for (struct ds_bus_known_model *k = bus->models; k; k = next) {
		next = k->next;
		free_known(k);
	}
}

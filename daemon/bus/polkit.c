/* polkit.c - CheckAuthorization of org.freedesktop.PolicyKit1, asked asynchronously.
 *
 * Each check asks without a dialog first. What is granted so holds as long as the authority's state does, and is
 * remembered. Only when the authority says that a password would help, and the caller allows it, it is asked again,
 * with a dialog and without end; that answer holds for this one call. */
#include "polkit.h"

#include <inttypes.h>
#include <string.h>

#define AUTHORITY "org.freedesktop.PolicyKit1"
#define AUTHORITY_PATH "/org/freedesktop/PolicyKit1/Authority"
#define AUTHORITY_INTERFACE "org.freedesktop.PolicyKit1.Authority"

#define N_REMEMBERED 64
#define ALLOW_INTERACTION 1u /* of CheckAuthorization's flags */

struct check {
	struct check *next, **at;
	struct ds_polkit *polkit;
	struct ds_subject *subject; /* referenced */
	enum ds_action action;
	char *key;       /* what a grant is remembered by */
	json_t *details; /* {key: text} */
	bool interactive, in_dialog;
	uint64_t generation; /* of the authority's state, when it was asked */
	char cancellation[32];
	sd_bus_slot *call, *watch;
	ds_access_fn *then;
	void *arg;
};

struct ds_polkit {
	struct ds_polkit_spec spec;
	sd_bus_slot *changed, *replaced;
	struct check *checks;
	char *remembered[N_REMEMBERED];
	size_t at; /* where the next grant is remembered */
	uint64_t generation, serial;
};

/* What was granted */

static void forget(struct ds_polkit *polkit)
{
	polkit->generation++;
	for (size_t i = 0; i < N_REMEMBERED; i++) {
		free(polkit->remembered[i]);
		polkit->remembered[i] = NULL;
	}
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	forget(userdata);
	return 0;
}

static bool is_remembered(const struct ds_polkit *polkit, const char *key)
{
	for (size_t i = 0; i < N_REMEMBERED; i++)
		if (polkit->remembered[i] && !strcmp(polkit->remembered[i], key))
			return true;
	return false;
}

static void remember(struct check *check)
{
	struct ds_polkit *polkit = check->polkit;

	if (check->generation != polkit->generation || is_remembered(polkit, check->key))
		return;
	free(polkit->remembered[polkit->at]);
	polkit->remembered[polkit->at] = ds_steal(&check->key);
	polkit->at = (polkit->at + 1) % N_REMEMBERED;
}

/* Checks */

static void free_check(struct check *check)
{
	*check->at = check->next;
	if (check->next)
		check->next->at = check->at;
	sd_bus_slot_unref(check->call);
	sd_bus_slot_unref(check->watch);
	ds_subject_unref(check->subject);
	json_decref(check->details);
	free(check->key);
	free(check);
}

static void answer(struct check *check, enum ds_access access, const char *why)
{
	ds_access_fn *then = check->then;
	void *arg = check->arg;
	char text[300];

	snprintf(text, sizeof(text), "%s", why);
	free_check(check);
	then(arg, access, text);
}

static void deny(struct check *check, enum ds_access access, const char *reason)
{
	char why[300];

	snprintf(why, sizeof(why), "%s: %s", ds_actions[check->action].what, reason);
	answer(check, access, why);
}

/* Close the dialog, if there is one. */
static void close_dialog(struct check *check)
{
	if (!check->in_dialog)
		return;
	check->in_dialog = false;
	sd_bus_call_method_async(check->polkit->spec.bus, NULL, AUTHORITY, AUTHORITY_PATH, AUTHORITY_INTERFACE,
				 "CancelCheckAuthorization", NULL, NULL, "s", check->cancellation);
	check->polkit->spec.flush(check->polkit->spec.arg);
}

static int ask(struct check *check, bool with_dialog);

static int on_caller_gone(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct check *check = userdata;
	const char *name, *from, *to;

	if (sd_bus_message_read(m, "sss", &name, &from, &to) < 0 || *to)
		return 0;
	close_dialog(check);
	deny(check, DS_ACCESS_DENIED, "the caller has left the bus");
	return 0;
}

static void on_error(struct check *check, const sd_bus_error *error)
{
	bool is_absent =
		sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
				       "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked");

	if (is_absent && ds_actions[check->action].without_authority)
		answer(check, DS_ACCESS_GRANTED, "");
	else if (is_absent)
		deny(check, DS_ACCESS_DENIED, "no polkit runs, so this needs root or the daemon's user");
	else
		deny(check, DS_ACCESS_DENIED, error->message ? error->message : error->name);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct check *check = userdata;
	const sd_bus_error *error = sd_bus_message_get_error(m);
	bool had_dialog = check->in_dialog;
	int granted, challenge;

	check->in_dialog = false;
	if (error)
		on_error(check, error);
	else if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 ||
		 sd_bus_message_read(m, "bb", &granted, &challenge) < 0)
		deny(check, DS_ACCESS_DENIED, "polkit's answer cannot be read");
	else if (granted && !had_dialog) {
		remember(check);
		answer(check, DS_ACCESS_GRANTED, "");
	} else if (granted)
		answer(check, DS_ACCESS_GRANTED, "");
	else if (!challenge)
		deny(check, DS_ACCESS_DENIED, had_dialog ? "polkit was not convinced" : "polkit does not allow it");
	else if (!check->interactive || had_dialog)
		deny(check, DS_ACCESS_NEEDS_DIALOG, "polkit wants a password, and there is nobody to ask for it");
	else if (ask(check, true) < 0)
		deny(check, DS_ACCESS_DENIED, "no memory");
	return 0;
}

static int fill_question(struct check *check, sd_bus_message *m, uint32_t flags)
{
	const char *key;
	json_t *value;
	int r;

	r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s", check->subject->bus_name,
				  ds_actions[check->action].id);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{ss}");
	json_object_foreach (check->details, key, value)
		if (r >= 0)
			r = sd_bus_message_append(m, "{ss}", key, json_string_value(value));
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r >= 0 ? sd_bus_message_append(m, "us", flags, check->cancellation) : r;
}

static int ask(struct check *check, bool with_dialog)
{
	struct ds_polkit *polkit = check->polkit;
	sd_bus_message *m = NULL;
	char match[400];
	int r = 0;

	check->call = sd_bus_slot_unref(check->call);
	check->generation = polkit->generation;
	if (with_dialog) {
		snprintf(check->cancellation, sizeof(check->cancellation), "check-%" PRIu64, ++polkit->serial);
		snprintf(match, sizeof(match),
			 "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
			 "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
			 check->subject->bus_name);
		r = sd_bus_add_match_async(polkit->spec.bus, &check->watch, match, on_caller_gone, NULL, check);
	}
	if (r >= 0)
		r = sd_bus_message_new_method_call(polkit->spec.bus, &m, AUTHORITY, AUTHORITY_PATH, AUTHORITY_INTERFACE,
						   "CheckAuthorization");
	if (r >= 0)
		r = fill_question(check, m, with_dialog ? ALLOW_INTERACTION : 0);
	/* Who types a password takes the time that it takes. */
	if (r >= 0)
		r = sd_bus_call_async(polkit->spec.bus, &check->call, m, on_answer, check,
				      with_dialog ? UINT64_MAX : 0);
	sd_bus_message_unref(m);
	check->in_dialog = r >= 0 && with_dialog;
	polkit->spec.flush(polkit->spec.arg);
	return r;
}

static json_t *copy_details(const char *const *details)
{
	json_t *json = json_object();

	for (; json && details && details[0]; details += 2)
		json_object_set_new(json, details[0], json_string(details[1]));
	return json;
}

static struct check *new_check(struct ds_polkit *polkit, const struct ds_access_question *q)
{
	struct check *check = calloc(1, sizeof(*check));
	ds_cleanup(ds_freep) char *details = NULL;

	if (!check)
		return NULL;
	*check = (struct check){.next = polkit->checks,
				.at = &polkit->checks,
				.polkit = polkit,
				.subject = ds_subject_ref(q->subject),
				.action = q->action,
				.details = copy_details(q->details),
				.interactive = q->interactive,
				.then = q->then,
				.arg = q->arg};
	if (check->next)
		check->next->at = &check->next;
	polkit->checks = check;
	details = check->details ? json_dumps(check->details, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (!details ||
	    asprintf(&check->key, "%s %s %s", q->subject->bus_name, ds_actions[q->action].id, details) < 0) {
		check->key = NULL;
		free_check(check);
		return NULL;
	}
	return check;
}

void ds_polkit_check(struct ds_polkit *polkit, const struct ds_access_question *q)
{
	struct check *check = new_check(polkit, q);

	if (!check)
		q->then(q->arg, DS_ACCESS_DENIED, "no memory");
	else if (is_remembered(polkit, check->key))
		answer(check, DS_ACCESS_GRANTED, "");
	else if (ask(check, false) < 0)
		deny(check, DS_ACCESS_DENIED, "polkit cannot be asked");
}

int ds_polkit_new(struct ds_polkit **out, const struct ds_polkit_spec *spec)
{
	struct ds_polkit *polkit = calloc(1, sizeof(*polkit));
	int r;

	if (!polkit)
		return -ENOMEM;
	polkit->spec = *spec;
	sd_bus_ref(spec->bus);
	r = sd_bus_match_signal_async(spec->bus, &polkit->changed, AUTHORITY, AUTHORITY_PATH, AUTHORITY_INTERFACE,
				      "Changed", on_changed, NULL, polkit);
	if (r >= 0)
		r = sd_bus_add_match_async(spec->bus, &polkit->replaced,
					   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
					   "interface='org.freedesktop.DBus',member='NameOwnerChanged',"
					   "arg0='" AUTHORITY "'",
					   on_changed, NULL, polkit);
	if (r < 0) {
		ds_polkit_free(polkit);
		return r;
	}
	*out = polkit;
	return 0;
}

struct ds_polkit *ds_polkit_free(struct ds_polkit *polkit)
{
	if (!polkit)
		return NULL;
	while (polkit->checks) {
		close_dialog(polkit->checks);
		deny(polkit->checks, DS_ACCESS_DENIED, "the daemon is leaving the bus");
	}
	forget(polkit);
	sd_bus_slot_unref(polkit->changed);
	sd_bus_slot_unref(polkit->replaced);
	sd_bus_unref(polkit->spec.bus);
	free(polkit);
	return NULL;
}

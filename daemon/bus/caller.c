/* caller.c - who sent a message, as the bus says, and whether it may do what it asks for. */
#include "../access.h"
#include "bus.h"

#include <string.h>

/* A message that waits for an answer about its sender. */
struct question {
	struct ds_bus *bus;
	sd_bus_message *message; /* referenced */
	enum ds_action action;
	bool has_action;
	json_t *details; /* list of texts; may be NULL */
	ds_bus_then_fn *then;
	struct ds_subject *subject; /* referenced, once it is known */
};

static void free_question(void *userdata)
{
	struct question *q = userdata;

	sd_bus_message_unref(q->message);
	ds_subject_unref(q->subject);
	json_decref(q->details);
	free(q);
}

/* "u", "au" of GetConnectionCredentials. What is not known is left out there, and stays as it is here. */
static int read_number(sd_bus_message *m, uint32_t *number)
{
	return sd_bus_message_read(m, "v", "u", number);
}

static int read_groups(sd_bus_message *m, gid_t **gids, size_t *n_gids)
{
	const void *list = NULL;
	size_t size = 0;
	int r = sd_bus_message_enter_container(m, 'v', "au");

	if (r >= 0)
		r = sd_bus_message_read_array(m, 'u', &list, &size);
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	if (r < 0)
		return r;
	*gids = malloc(size + 1);
	if (!*gids)
		return -ENOMEM;
	if (size > 0)
		memcpy(*gids, list, size);
	*n_gids = size / sizeof(gid_t);
	return 0;
}

static int read_credentials(sd_bus_message *m, struct ds_subject **out)
{
	ds_cleanup(ds_freep) gid_t *gids = NULL;
	uint32_t uid = DS_NO_UID, pid = 0;
	size_t n_gids = 0;
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *name = "";

		r = sd_bus_message_read(m, "s", &name);
		if (r >= 0 && !strcmp(name, "UnixUserID"))
			r = read_number(m, &uid);
		else if (r >= 0 && !strcmp(name, "ProcessID"))
			r = read_number(m, &pid);
		else if (r >= 0 && !strcmp(name, "UnixGroupIDs") && !gids)
			r = read_groups(m, &gids, &n_gids);
		else if (r >= 0)
			r = sd_bus_message_skip(m, "v");
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	if (r < 0 || uid == DS_NO_UID)
		return r < 0 ? r : -ENODATA;
	r = ds_subject_new_user(out, uid, gids, n_gids);
	if (r == 0)
		ds_subject_label(*out, (pid_t)pid);
	return r;
}

static void proceed(struct question *q)
{
	int r = q->then(q->bus, q->message, q->subject);

	if (r < 0)
		sd_bus_reply_method_errno(q->message, r, NULL);
	ds_bus_flush(q->bus);
}

static void on_access(void *arg, enum ds_access answer, const char *why)
{
	struct question *q = arg;

	if (answer == DS_ACCESS_GRANTED) {
		proceed(q);
	} else {
		sd_bus_reply_method_errorf(q->message,
					   answer == DS_ACCESS_NEEDS_DIALOG
						   ? SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED
						   : SD_BUS_ERROR_ACCESS_DENIED,
					   "%s", why);
		ds_bus_flush(q->bus);
	}
	free_question(q);
}

static void check(struct question *q)
{
	const char *details[2 * 8 + 1] = {0};
	struct ds_access_question access = {
		.subject = q->subject, .action = q->action, .details = details, .then = on_access, .arg = q};

	for (size_t i = 0; i < json_array_size(q->details) && i + 1 < DS_ARRAY_SIZE(details); i++)
		details[i] = json_string_value(json_array_get(q->details, i));
	access.interactive = sd_bus_message_get_allow_interactive_authorization(q->message) > 0;
	ds_access_check(ds_bus_daemon(q->bus), &access);
}

static int on_credentials(sd_bus_message *answer, void *userdata, sd_bus_error *error)
{
	struct question *q = userdata;

	/* From here on it does not end with the call. */
	sd_bus_slot_set_destroy_callback(sd_bus_get_current_slot(sd_bus_message_get_bus(q->message)), NULL);
	if (sd_bus_message_is_method_error(answer, NULL) || read_credentials(answer, &q->subject) < 0) {
		sd_bus_reply_method_errorf(q->message, SD_BUS_ERROR_ACCESS_DENIED, "the bus does not say who you are");
		free_question(q);
		return 1;
	}
	snprintf(q->subject->bus_name, sizeof(q->subject->bus_name), "%s", sd_bus_message_get_sender(q->message));
	if (q->has_action) {
		check(q);
	} else {
		proceed(q);
		free_question(q);
	}
	return 1;
}

static int ask(const struct question *question)
{
	struct question *q = malloc(sizeof(*q));
	sd_bus_slot *slot = NULL;
	int r;

	if (!q)
		return -ENOMEM;
	*q = *question;
	sd_bus_message_ref(q->message);
	json_incref(q->details);
	r = sd_bus_call_method_async(sd_bus_message_get_bus(q->message), &slot, "org.freedesktop.DBus",
				     "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionCredentials",
				     on_credentials, q, "s", sd_bus_message_get_sender(q->message));
	if (r < 0) {
		free_question(q);
		return r;
	}
	sd_bus_slot_set_destroy_callback(slot, free_question);
	sd_bus_slot_set_floating(slot, 1);
	sd_bus_slot_unref(slot);
	return 1;
}

int ds_bus_with_subject(struct ds_bus *bus, sd_bus_message *m, ds_bus_then_fn *then)
{
	return ask(&(struct question){.bus = bus, .message = m, .then = then});
}

int ds_bus_with_access(struct ds_bus *bus, sd_bus_message *m, enum ds_action action, const char *const *details,
		       ds_bus_then_fn *then)
{
	ds_cleanup(json_decrefp) json_t *list = json_array();

	for (; list && details && *details; details++)
		json_array_append_new(list, json_string(*details));
	return ask(&(struct question){
		.bus = bus, .message = m, .then = then, .has_action = true, .action = action, .details = list});
}

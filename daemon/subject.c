/* subject.c - credentials of peers, and the labels that go with them. */
#include "subject.h"

#include <ctype.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-login.h>

static int new_subject(struct ds_subject **out, uid_t uid, gid_t *gids, size_t n_gids)
{
	struct ds_subject *s = calloc(1, sizeof(*s));

	if (!s) {
		free(gids);
		return -ENOMEM;
	}
	*s = (struct ds_subject){.n_refs = 1, .uid = uid, .gids = gids, .n_gids = n_gids};
	snprintf(s->owner, sizeof(s->owner), "uid:%u", uid);
	*out = s;
	return 0;
}

/* The primary group, and behind it those of SO_PEERGROUPS: a list whose length only the kernel knows. */
static int peer_groups(int fd, gid_t primary, gid_t **gids, size_t *n_gids)
{
	ds_cleanup(ds_freep) gid_t *list = NULL;
	socklen_t size = 64 * sizeof(*list);

	for (;;) {
		gid_t *larger = realloc(list, sizeof(*list) + size);
		socklen_t room = size;

		if (!larger)
			return -ENOMEM;
		list = larger;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list + 1, &size) == 0)
			break;
		if (errno != ERANGE || size <= room)
			return -errno;
	}
	list[0] = primary;
	*n_gids = 1 + size / sizeof(*list);
	*gids = ds_steal(&list);
	return 0;
}

int ds_subject_new_peer(struct ds_subject **out, int fd, struct ds_error *err)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	gid_t *gids = NULL;
	size_t n_gids = 0;
	int r = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		r = -errno;
	if (r == 0)
		r = peer_groups(fd, credentials.gid, &gids, &n_gids);
	if (r == 0)
		r = new_subject(out, credentials.uid, gids, n_gids);
	if (r < 0)
		return ds_fail(err, r, "the kernel does not say who is at the other end: %s", strerror(-r));
	ds_subject_label(*out, credentials.pid);
	return 0;
}

int ds_subject_new_user(struct ds_subject **out, uid_t uid, const gid_t *gids, size_t n_gids)
{
	gid_t *copy = calloc(n_gids + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (n_gids > 0)
		memcpy(copy, gids, n_gids * sizeof(*copy));
	return new_subject(out, uid, copy, n_gids);
}

int ds_subject_new_key(struct ds_subject **out, const char *name)
{
	int r = new_subject(out, DS_NO_UID, NULL, 0);

	if (r < 0)
		return r;
	snprintf((*out)->key, sizeof((*out)->key), "%s", name);
	snprintf((*out)->owner, sizeof((*out)->owner), "key:%s", (*out)->key);
	return 0;
}

/* Undo "\x2d", by which a unit's name writes what would end one of its parts. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned byte = 0;

		if (from[0] == '\\' && from[1] == 'x' && isxdigit((unsigned char)from[2]) &&
		    isxdigit((unsigned char)from[3]))
			sscanf(from + 2, "%2x", &byte);
		if (byte >= ' ' && byte < 127) {
			*to = (char)byte;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

void ds_subject_app_of_unit(const char *unit, char *app, size_t size)
{
	char text[256];
	const char *start;
	char *end;
	bool is_scope;

	*app = '\0';
	if (strncmp(unit, "app-", 4) || strlen(unit) >= sizeof(text))
		return;
	snprintf(text, sizeof(text), "%s", unit + 4);
	end = strrchr(text, '.');
	if (!end || (strcmp(end, ".scope") && strcmp(end, ".service")))
		return;
	is_scope = !strcmp(end, ".scope");
	*end = '\0';
	end = strrchr(text, is_scope ? '-' : '@');
	if (end)
		*end = '\0';
	else if (is_scope)
		return;
	start = strrchr(text, '-'); /* what is before it is the launcher */
	snprintf(app, size, "%s", start ? start + 1 : text);
	unescape(app);
}

void ds_subject_label(struct ds_subject *subject, pid_t pid)
{
	char *unit = NULL;

	subject->pid = pid;
	if (pid <= 0 || (sd_pid_get_user_unit(pid, &unit) < 0 && sd_pid_get_unit(pid, &unit) < 0))
		return;
	snprintf(subject->unit, sizeof(subject->unit), "%s", unit);
	ds_subject_app_of_unit(unit, subject->app, sizeof(subject->app));
	free(unit);
}

struct ds_subject *ds_subject_ref(struct ds_subject *subject)
{
	subject->n_refs++;
	return subject;
}

struct ds_subject *ds_subject_unref(struct ds_subject *subject)
{
	if (!subject || --subject->n_refs > 0)
		return NULL;
	free(subject->gids);
	free(subject);
	return NULL;
}

bool ds_subject_has_group(const struct ds_subject *subject, gid_t gid)
{
	for (size_t i = 0; i < subject->n_gids; i++)
		if (subject->gids[i] == gid)
			return true;
	return false;
}

/* subject.h - who asks: the user at the other end of a Unix socket or of the bus, or the owner of an API key.
 *
 * User and groups come from the kernel or from the bus, as they were when the client connected, and decide what it may
 * do. Process, unit and application are labels for logs and lists alone: a process id may be another process by the
 * time it is looked at, so they are never a permission. */
#pragma once

#include <deepseekd/base.h>
#include <sys/types.h>

#define DS_NO_UID ((uid_t)-1) /* of a client that has an API key and no user */

/* Counted: a connection holds one reference, each request of it another. Does not change once it is made. */
struct ds_subject {
	unsigned n_refs;
	uid_t uid;
	gid_t *gids; /* [n_gids], the primary one first */
	size_t n_gids;
	char owner[72];     /* "uid:1000" or "key:laptop": what tells users apart, in queues and in the KV cache */
	char key[65];       /* the name of the API key, or "" */
	char bus_name[256]; /* its unique name on the bus, or "" if it came by a socket */
	/* Labels. */
	pid_t pid;      /* 0: not known */
	char unit[128]; /* of systemd, of the system's or the user's manager, or "" */
	char app[128];  /* the application's id, from the unit that its launcher made, or "" */
};

/* The peer of the connected Unix socket @fd, as the kernel noted it at connect(). */
int ds_subject_new_peer(struct ds_subject **out, int fd, struct ds_error *err);
/* A user by numbers: of the bus, and of tests. @gids are copied. */
int ds_subject_new_user(struct ds_subject **out, uid_t uid, const gid_t *gids, size_t n_gids);
/* The owner of the API key that is called @name. */
int ds_subject_new_key(struct ds_subject **out, const char *name);
/* Look up unit and application of the process @pid, before anybody else has the subject. */
void ds_subject_label(struct ds_subject *subject, pid_t pid);

struct ds_subject *ds_subject_ref(struct ds_subject *subject);
struct ds_subject *ds_subject_unref(struct ds_subject *subject); /* takes NULL, returns NULL */
static inline void ds_subject_unrefp(struct ds_subject **p)
{
	ds_subject_unref(*p);
}

bool ds_subject_has_group(const struct ds_subject *subject, gid_t gid);

/* The id of the application in the name of a unit that a desktop's launcher made, after the desktop's convention:
 * app[-LAUNCHER]-ID-RANDOM.scope, app[-LAUNCHER]-ID[@RANDOM].service. "" if it is none. */
void ds_subject_app_of_unit(const char *unit, char *app, size_t size);

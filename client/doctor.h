/* doctor.h - what dsctl doctor looks at: each check adds findings, each finding says what is, and if it is wrong what
 * to do.
 *
 * Checks run in the order of the table in verb-doctor.c, and later ones use what earlier ones learnt. A check never
 * changes anything. */
#pragma once

#include "verb.h"

#include <limits.h>

#include <sys/types.h>

enum ds_health {
	DS_HEALTH_OK,
	DS_HEALTH_WARN, /* works, or could not be looked at */
	DS_HEALTH_FAIL,
};

/* A user as the kernel sees it. */
struct ds_who {
	uid_t uid;
	gid_t gids[64]; /* [n_gids], its own first */
	size_t n_gids;
	char name[64];
};

struct ds_doctor {
	struct ds_client *client;
	const char *config; /* --config, or NULL */
	const char *check;  /* the name of the check that runs */
	json_t *findings;   /* [{"check", "state", "what", "fix"}] */
	bool failed;

	/* Learnt: NULL or false as long as it is not known. */
	json_t *status;  /* /admin/v1/status */
	json_t *plugins; /* /admin/v1/plugins */
	bool knows_user; /* then that of the daemon: */
	struct ds_who user;
	bool hides_homes; /* the unit has ProtectHome= */
};

/* Add a finding. @fix NULL or "": nothing is to be done. */
void ds_doctor_find(struct ds_doctor *d, enum ds_health health, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* May @who have @bits (4 read, 2 write, 1 search or execute) of what is at @path? Links are followed. */
bool ds_doctor_may(const struct ds_who *who, const char *path, unsigned bits);
/* Every directory on the way to @path exists, and @who may pass through it; else a finding names the first that is in
 * the way, and false. @what is the subject of its sentence. */
bool ds_doctor_walk(struct ds_doctor *d, const struct ds_who *who, const char *what, const char *path);
/* The one who runs dsctl. */
void ds_doctor_myself(struct ds_who *who);
const char *ds_doctor_user_name(char name[64], uid_t uid);

typedef void ds_doctor_check(struct ds_doctor *d);

/* doctor-daemon.c */
ds_doctor_check ds_doctor_socket, ds_doctor_daemon, ds_doctor_unit, ds_doctor_configuration, ds_doctor_leftovers;
/* doctor-models.c */
ds_doctor_check ds_doctor_plugins, ds_doctor_models, ds_doctor_paths, ds_doctor_memory;
/* doctor-machine.c */
ds_doctor_check ds_doctor_kernel, ds_doctor_devices, ds_doctor_disk;

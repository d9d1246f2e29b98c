/* doctor-daemon.c - dsctl doctor on the way to the daemon: its socket, itself, its unit, its configuration. */
#include "doctor.h"
#include "program.h"

#include <dirent.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SYSTEM_DIR "/run/deepseekd"
#define UNIT "deepseekd.service"
#define FIX_START "systemctl start deepseekd.socket deepseekd.service (then dsctl log says why it does not start)"

/* 0: somebody listens; else what connect() said. */
static int try_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0 ||
	    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path)) {
		if (fd >= 0)
			close(fd);
		return fd < 0 ? errno : ENAMETOOLONG;
	}
	error = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	close(fd);
	return error == EAGAIN ? 0 : error; /* its backlog is full: then it listens */
}

static bool is_in(gid_t gid, const gid_t *gids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (gids[i] == gid)
			return true;
	return false;
}

/* Connecting needs the right to write. Who has just been made a member must log in again. */
static void explain_refusal(struct ds_doctor *d, const struct ds_who *me, const struct stat *st)
{
	const struct group *group = getgrgid(st->st_gid);
	const struct passwd *pw = getpwuid(me->uid);
	gid_t gids[64];
	int n = DS_ARRAY_SIZE(gids);
	char fix[256];

	if (!(st->st_mode & 020))
		snprintf(fix, sizeof(fix),
			 "set listen.mode: 0660 and listen.group, or SocketMode= and SocketGroup= of "
			 "deepseekd.socket");
	else if (pw && getgrouplist(pw->pw_name, pw->pw_gid, gids, &n) > 0 && is_in(st->st_gid, gids, (size_t)n) &&
		 !is_in(st->st_gid, me->gids, me->n_gids))
		snprintf(fix, sizeof(fix), "%s is a member of %s since this session began: log in again", me->name,
			 group ? group->gr_name : "its group");
	else if (group)
		snprintf(fix, sizeof(fix), "usermod -aG %s %s, then log in again", group->gr_name, me->name);
	else
		snprintf(fix, sizeof(fix), "give the socket to a group that %s is in", me->name);
	ds_doctor_find(d, DS_HEALTH_FAIL, fix, "%s: %s may not open it (group %s, mode %04o)", d->client->socket,
		       me->name, group ? group->gr_name : "?", st->st_mode & 07777);
}

void ds_doctor_socket(struct ds_doctor *d)
{
	const char *path = d->client->socket;
	struct ds_who me;
	struct stat st;
	int error;

	ds_doctor_myself(&me);
	if (*path == '/' && !ds_doctor_walk(d, &me, "the socket", path))
		return;
	if (stat(path, &st) < 0) {
		ds_doctor_find(d, DS_HEALTH_FAIL, FIX_START, "%s: %s", path, strerror(errno));
		return;
	}
	if (!S_ISSOCK(st.st_mode)) {
		ds_doctor_find(d, DS_HEALTH_FAIL, "remove it, and start the daemon again", "%s is not a socket", path);
		return;
	}
	error = try_socket(path);
	if (error == EACCES)
		explain_refusal(d, &me, &st);
	else if (error == ECONNREFUSED)
		ds_doctor_find(d, DS_HEALTH_FAIL, FIX_START, "%s: nobody listens: a daemon that is gone left it", path);
	else if (error)
		ds_doctor_find(d, DS_HEALTH_FAIL, FIX_START, "%s: %s", path, strerror(error));
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "%s may be opened by %s", path, me.name);
}

/* User and groups of the process of the daemon, as the kernel tells everybody. */
static void learn_user(struct ds_doctor *d)
{
	char path[64], line[4096];
	unsigned id, more;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)json_integer_value(json_object_get(d->status, "pid")));
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Uid: %*u %u", &id) == 1) {
			d->user.uid = id;
			d->knows_user = true;
		} else if (sscanf(line, "Gid: %*u %u", &id) == 1) {
			d->user.gids[d->user.n_gids++] = id;
		} else if (strncmp(line, "Groups:", 7) == 0) {
			int used = 0;

			for (const char *p = line + 7; sscanf(p, "%u%n", &more, &used) == 1; p += used)
				if (d->user.n_gids < DS_ARRAY_SIZE(d->user.gids))
					d->user.gids[d->user.n_gids++] = more;
		}
	}
	if (f)
		fclose(f);
	if (d->knows_user)
		ds_doctor_user_name(d->user.name, d->user.uid);
}

void ds_doctor_daemon(struct ds_doctor *d)
{
	ds_cleanup(ds_json_freep) json_t *health = NULL;
	struct ds_error err;
	int r = ds_http_call(d->client->http, "GET", "/healthz", NULL, &health, &err);

	if (r < 0) {
		ds_doctor_find(d, DS_HEALTH_FAIL, r == -ECONNREFUSED ? FIX_START : "dsctl log",
			       "it does not answer: %s", err.text);
		return;
	}
	r = ds_http_call(d->client->http, "GET", "/admin/v1/status", NULL, &d->status, &err);
	if (r < 0) {
		ds_doctor_find(d, DS_HEALTH_WARN, "run dsctl doctor as root to have models looked at",
			       "it answers, but does not tell its state: %s", err.text);
		return;
	}
	learn_user(d);
	if (ds_http_call(d->client->http, "GET", "/admin/v1/plugins", NULL, &d->plugins, &err) < 0)
		ds_doctor_find(d, DS_HEALTH_WARN, NULL, "it does not tell its plugins: %s", err.text);
	ds_doctor_find(d, DS_HEALTH_OK, NULL, "version %s, pid %d, user %s, %s",
		       json_string_value(json_object_get(d->status, "version")),
		       (int)json_integer_value(json_object_get(d->status, "pid")),
		       d->knows_user ? d->user.name : "unknown",
		       json_string_value(json_object_get(d->status, "state")));
}

/* The value of NAME=value among @lines, or NULL. */
static const char *property(const json_t *lines, const char *name)
{
	size_t i, size = strlen(name);
	const json_t *line;

	json_array_foreach (lines, i, line) {
		const char *text = json_string_value(line);

		if (strncmp(text, name, size) == 0 && text[size] == '=')
			return text + size + 1;
	}
	return NULL;
}

/* With systemd: the unit is loaded and has not failed. A private daemon needs no unit. */
void ds_doctor_unit(struct ds_doctor *d)
{
	const char *argv[] = {"systemctl", "show", "--property=LoadState,ActiveState,SubState,Result,ProtectHome", UNIT,
			      NULL};
	bool is_system = strncmp(d->client->socket, SYSTEM_DIR "/", strlen(SYSTEM_DIR "/")) == 0;
	ds_cleanup(ds_json_freep) json_t *lines = NULL;
	const char *load, *active, *homes;
	struct ds_error err;
	int r = ds_program_lines(argv, &lines, &err);

	load = property(lines, "LoadState");
	active = property(lines, "ActiveState");
	homes = property(lines, "ProtectHome");
	if (r != 0 || !load || !active) {
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "not looked at: systemd does not answer here");
		return;
	}
	if (strcmp(load, "loaded")) {
		ds_doctor_find(d, is_system ? DS_HEALTH_FAIL : DS_HEALTH_OK,
			       is_system ? "systemctl daemon-reload, or install the package again" : NULL,
			       UNIT " is not loaded: %s", load);
		return;
	}
	d->hides_homes = homes && strcmp(homes, "no") && is_system;
	if (strcmp(active, "failed") == 0)
		ds_doctor_find(d, DS_HEALTH_FAIL,
			       "dsctl log says why; then systemctl reset-failed deepseekd and start it again",
			       UNIT " has failed: %s", property(lines, "Result") ? property(lines, "Result") : "?");
	else
		ds_doctor_find(d, DS_HEALTH_OK, NULL, UNIT " is %s (%s)", active,
			       property(lines, "SubState") ? property(lines, "SubState") : "?");
}

void ds_doctor_configuration(struct ds_doctor *d)
{
	const char *argv[] = {ds_program_daemon(), "--check-config", d->config ? "--config" : NULL, d->config, NULL};
	ds_cleanup(ds_json_freep) json_t *lines = NULL;
	const json_t *line;
	struct ds_error err;
	int r = ds_program_lines(argv, &lines, &err);
	size_t i;

	if (r < 0) {
		ds_doctor_find(d, DS_HEALTH_FAIL, "install the package of the daemon again", "%s", err.text);
		return;
	}
	json_array_foreach (lines, i, line)
		if (r != 0)
			ds_doctor_find(d, DS_HEALTH_FAIL,
				       "correct the file; dsctl config check; systemctl reload deepseekd", "%s",
				       json_string_value(line));
		else
			ds_doctor_find(d, strstr(json_string_value(line), "is valid") ? DS_HEALTH_OK : DS_HEALTH_WARN,
				       NULL, "%s", json_string_value(line));
	if (json_array_size(lines) == 0)
		ds_doctor_find(d, DS_HEALTH_FAIL, NULL, "the check ended with %d and no word", r);
}

static void look_into(struct ds_doctor *d, const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;
	size_t n = 0;

	while (stream && (entry = readdir(stream))) {
		char path[PATH_MAX], fix[PATH_MAX + 16];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || strcmp(path, d->client->socket) == 0 ||
		    try_socket(path) != ECONNREFUSED)
			continue;
		snprintf(fix, sizeof(fix), "rm %s", path);
		ds_doctor_find(d, DS_HEALTH_WARN, fix, "%s: nobody listens: a daemon that is gone left it", path);
		n++;
	}
	if (stream)
		closedir(stream);
	if (stream && n == 0)
		ds_doctor_find(d, DS_HEALTH_OK, NULL, "nothing in %s", dir);
}

/* Sockets of daemons that are gone, where daemons make them and beside the one that was named. */
void ds_doctor_leftovers(struct ds_doctor *d)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *slash = strrchr(d->client->socket, '/');
	char own[PATH_MAX] = "", named[PATH_MAX] = "";

	if (runtime && *runtime)
		snprintf(own, sizeof(own), "%s/deepseekd", runtime);
	if (slash)
		snprintf(named, sizeof(named), "%.*s", (int)(slash - d->client->socket), d->client->socket);
	look_into(d, SYSTEM_DIR);
	if (own[0] && strcmp(own, SYSTEM_DIR))
		look_into(d, own);
	if (named[0] && strcmp(named, SYSTEM_DIR) && strcmp(named, own))
		look_into(d, named);
}

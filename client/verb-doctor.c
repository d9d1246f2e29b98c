/* verb-doctor.c - dsctl doctor: looks for what keeps the service from working, and says what to do about it. */
#include "doctor.h"
#include "output.h"

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

struct options {
	const char *config;
};

static const char *const healths[] = {"ok", "warn", "fail"};

static const struct {
	const char *name;
	ds_doctor_check *run;
} checks[] = {
	{"socket", ds_doctor_socket},        {"daemon", ds_doctor_daemon},       {"unit", ds_doctor_unit},
	{"config", ds_doctor_configuration}, {"leftovers", ds_doctor_leftovers}, {"plugins", ds_doctor_plugins},
	{"models", ds_doctor_models},        {"paths", ds_doctor_paths},         {"memory", ds_doctor_memory},
	{"kernel", ds_doctor_kernel},        {"devices", ds_doctor_devices},     {"disk", ds_doctor_disk},
};

void ds_doctor_find(struct ds_doctor *d, enum ds_health health, const char *fix, const char *fmt, ...)
{
	char what[1024];
	va_list args;
	json_t *text;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	/* Names come from files and from the daemon: neither a terminal nor JSON takes every byte. */
	text = json_string(what);
	for (char *p = what; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127 || (!text && *p & 0x80))
			*p = '?';
	json_decref(text);
	json_array_append_new(d->findings, json_pack("{s:s, s:s, s:s, s:s}", "check", d->check, "state",
						     healths[health], "what", what, "fix", fix ? fix : ""));
	d->failed |= health == DS_HEALTH_FAIL;
}

const char *ds_doctor_user_name(char name[64], uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(name, 64, "%s", pw->pw_name);
	else
		snprintf(name, 64, "uid %u", uid);
	return name;
}

void ds_doctor_myself(struct ds_who *who)
{
	int n;

	*who = (struct ds_who){.uid = geteuid(), .gids = {getegid()}, .n_gids = 1};
	n = getgroups((int)DS_ARRAY_SIZE(who->gids) - 1, who->gids + 1);
	if (n > 0)
		who->n_gids += (size_t)n;
	ds_doctor_user_name(who->name, who->uid);
}

bool ds_doctor_may(const struct ds_who *who, const char *path, unsigned bits)
{
	unsigned shift = 0;
	struct stat st;

	if (who->uid == geteuid() || stat(path, &st) < 0) /* the kernel knows best; access lists too */
		return faccessat(AT_FDCWD, path, (int)bits, AT_EACCESS) == 0;
	if (who->uid == 0 || getxattr(path, "system.posix_acl_access", NULL, 0) > 0) /* a list: not ours to judge */
		return true;
	for (size_t i = 0; i < who->n_gids; i++)
		if (who->gids[i] == st.st_gid)
			shift = 3;
	if (who->uid == st.st_uid)
		shift = 6;
	return (st.st_mode >> shift & bits) == bits;
}

/* One directory of the way. */
static bool pass(struct ds_doctor *d, const struct ds_who *who, const char *what, const char *dir)
{
	char fix[PATH_MAX + 128], owner[64];
	struct stat st;

	if (stat(dir, &st) < 0) {
		ds_doctor_find(d, DS_HEALTH_FAIL,
			       errno == ENOENT ? "correct the path, or make what is missing"
					       : "run dsctl doctor as root",
			       "%s: %s: %s", what, dir, strerror(errno));
		return false;
	}
	if (!S_ISDIR(st.st_mode)) {
		ds_doctor_find(d, DS_HEALTH_FAIL, "correct the path", "%s: %s is not a directory", what, dir);
		return false;
	}
	if (ds_doctor_may(who, dir, 1))
		return true;
	snprintf(fix, sizeof(fix), "setfacl -m u:%s:x %s (or chmod o+x), or move the files to where the user may go",
		 who->name, dir);
	ds_doctor_find(d, DS_HEALTH_FAIL, fix, "%s: %s may not pass through %s (owner %s, mode %04o)", what, who->name,
		       dir, ds_doctor_user_name(owner, st.st_uid), st.st_mode & 07777);
	return false;
}

bool ds_doctor_walk(struct ds_doctor *d, const struct ds_who *who, const char *what, const char *path)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	if (!pass(d, who, what, "/"))
		return false;
	for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (!pass(d, who, what, dir))
			return false;
		*slash = '/';
	}
	return true;
}

static void print(const json_t *findings)
{
	static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
	bool colour = ds_output_has_colour(stdout);
	const json_t *f;
	size_t i;

	json_array_foreach (findings, i, f) {
		const char *state = json_string_value(json_object_get(f, "state"));
		const char *fix = json_string_value(json_object_get(f, "fix"));
		size_t health = 0;

		while (health + 1 < DS_ARRAY_SIZE(healths) && strcmp(healths[health], state))
			health++;
		printf("%s%-4s%s  %-9s  %s\n", colour ? colours[health] : "", state, colour ? "\033[0m" : "",
		       json_string_value(json_object_get(f, "check")), json_string_value(json_object_get(f, "what")));
		if (fix && *fix)
			printf("                 %s\n", fix);
	}
}

static int doctor(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct options *o = options;
	ds_cleanup(ds_json_freep) json_t *findings = json_array();
	ds_cleanup(ds_json_freep) json_t *result = NULL;
	struct ds_doctor d = {.client = client, .config = o->config, .findings = findings};
	int r = 0;

	for (size_t i = 0; i < DS_ARRAY_SIZE(checks); i++) {
		d.check = checks[i].name;
		checks[i].run(&d);
	}
	json_decref(d.status);
	json_decref(d.plugins);
	if (client->json) {
		result = json_pack("{s:b, s:O}", "healthy", !d.failed, "findings", findings);
		r = result ? ds_output_json(result, false, err) : ds_fail(err, -ENOMEM, "no memory");
	} else {
		print(findings);
	}
	return r < 0 ? r : d.failed;
}

static const struct ds_flag flags[] = {
	{"config", 0, DS_FLAG_TEXT, offsetof(struct options, config), "FILE",
	 "the configuration to check (else that of the system)"},
	{0},
};

const struct ds_verb ds_verb_doctor = {
	.name = "doctor",
	.usage = "",
	.help = "Look for what keeps the service from working, and say what to do",
	.flags = flags,
	.options_size = sizeof(struct options),
	.run = doctor,
};

/* sandbox.c - one file for all helpers, so that one look shows what they may do. */
#include "sandbox.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const char *const environment[][2] = {
	{"OPENBLAS_NUM_THREADS", "1"},
	{"OMP_NUM_THREADS", "1"},
};

int ds_sandbox_prepare(struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(environment); i++)
		if (setenv(environment[i][0], environment[i][1], 1) < 0)
			return ds_fail(err, -errno, "%s: %s", environment[i][0], strerror(errno));
	return 0;
}

static int count_threads(struct ds_error *err)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	int n = 0;

	if (!status)
		return ds_fail(err, -errno, "/proc/self/status: %s", strerror(errno));
	while (n == 0 && fgets(line, sizeof(line), status))
		if (sscanf(line, "Threads: %d", &n) != 1)
			n = 0;
	fclose(status);
	return n;
}

/* Prompts are nobody's business: no memory goes into a core dump, not even into one that is piped to a program, for
 * which RLIMIT_CORE does not hold. */
static int refuse_core_dumps(struct ds_error *err)
{
	const struct rlimit none = {0, 0};
	FILE *filter;

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return ds_fail(err, -errno, "RLIMIT_CORE: %s", strerror(errno));
	filter = fopen("/proc/self/coredump_filter", "we");
	if (!filter)
		return 0; /* a kernel without core dumps */
	fputs("0", filter);
	if (fclose(filter) != 0)
		return ds_fail(err, -errno, "/proc/self/coredump_filter: %s", strerror(errno));
	return 0;
}

int ds_sandbox_enter(struct ds_error *err)
{
	int n = count_threads(err);

	if (n < 0)
		return n;
	if (n != 1)
		return ds_fail(err, -EBUSY, "the process has %d threads after opening its plugins, it must have one",
			       n);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return ds_fail(err, -errno, "no_new_privs: %s", strerror(errno));
	return refuse_core_dumps(err);
}

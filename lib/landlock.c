/* landlock.c - rulesets without a rule: what they handle is forbidden. The system calls have no wrappers, and headers
 * of older kernels lack the newer fields, so that the struct is spelled out here. */
#include "landlock.h"

#include <string.h>
#include <sys/syscall.h>

struct ruleset {
	uint64_t files; /* rights that are handled, a bit each, in the order in which the ABI grew */
	uint64_t tcp;	/* bind, connect */
	uint64_t scopes; /* abstract sockets, signals */
};

#define VERSION_FLAG 1u
#define SCOPE_SOCKETS 1u
#define SCOPE_SIGNALS 2u

static long abi(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_FLAG);

	return version < 0 ? 0 : version; /* not built in, or not enabled at boot */
}

static int restrict_self(const struct ruleset *ruleset, struct ds_error *err)
{
	/* A kernel takes a longer struct than it knows, if the rest is zero. */
	int fd = (int)syscall(SYS_landlock_create_ruleset, ruleset, sizeof(*ruleset), 0), r = 0;

	if (fd < 0)
		return ds_fail(err, -errno, "Landlock: %s", strerror(errno));
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = ds_fail(err, -errno, "Landlock: %s", strerror(errno));
	close(fd);
	return r;
}

int ds_landlock_nothing(struct ds_error *err)
{
	/* By ABI; 2 added linking elsewhere, 3 truncating, 5 ioctl of devices. */
	static const unsigned n_rights[] = {0, 13, 14, 15, 15, 16};
	long version = abi();
	const struct ruleset ruleset = {
		.files = (1ull << n_rights[version < 5 ? version : 5]) - 1,
		.tcp = version >= 4 ? 3 : 0,
		.scopes = version >= 6 ? SCOPE_SOCKETS | SCOPE_SIGNALS : 0,
	};

	return version == 0 ? 0 : restrict_self(&ruleset, err);
}

int ds_landlock_signals(struct ds_error *err)
{
	const struct ruleset ruleset = {.scopes = SCOPE_SIGNALS};

	return abi() < 6 ? 0 : restrict_self(&ruleset, err);
}

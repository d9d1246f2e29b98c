/* confine.c - a filter that takes away what a broker never does: unlike a helper's it is a list of what is refused,
 * since the libraries under the event loop, the bus and the resolver are many. Helpers inherit it. */
#include "confine.h"
#include "landlock.h"
#include "sandbox.h"

#include <sys/prctl.h>

#ifdef DS_SANDBOX_NULL

int ds_confine_broker(struct ds_error *err)
{
	return 0; /* a leak checker traces its own process */
}

#else

#include <seccomp.h>
#include <signal.h>
#include <string.h>

#define ANY 0xff

/* Refused with @error; @arg: only where this argument, an int, is not @self (the process id) or 0. */
static const struct refusal {
	const char *name;
	int error;
	unsigned arg;
	bool self;
} refusals[] = {
	{"kill", EPERM, 0, true},	 {"tkill", EPERM, ANY},		  {"rt_sigqueueinfo", EPERM, 0, true},
	{"rt_tgsigqueueinfo", EPERM, 0, true},
	{"ptrace", EPERM, ANY},		 {"process_vm_readv", EPERM, ANY}, {"process_vm_writev", EPERM, ANY},
	{"process_madvise", EPERM, ANY}, {"process_mrelease", EPERM, ANY}, {"kcmp", EPERM, ANY},
	{"prlimit64", EPERM, 0, false},	 {"perf_event_open", EPERM, ANY},  {"bpf", EPERM, ANY},
	{"migrate_pages", EPERM, ANY},	 {"move_pages", EPERM, 0, false},
	/* As on a kernel that is too old: libraries go on without. A pidfd of a helper comes with its start. */
	{"pidfd_open", ENOSYS, ANY},	 {"pidfd_getfd", ENOSYS, ANY},
};

static int add(scmp_filter_ctx filter, const struct refusal *refusal, struct ds_error *err)
{
	int number = seccomp_syscall_resolve_name(refusal->name), r;
	struct scmp_arg_cmp other = {refusal->arg, SCMP_CMP_NE, refusal->self ? (uint32_t)getpid() : 0, 0};

	if (number < 0)
		return 0; /* this machine has no such call */
	r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO((uint16_t)refusal->error), number, refusal->arg != ANY, &other);
	return r < 0 ? ds_fail(err, r, "the filter of system calls, %s: %s", refusal->name, strerror(-r)) : 0;
}

/* abort() of a helper is SIGABRT to itself, by a number that is not known yet. */
static int add_tgkill(scmp_filter_ctx filter, struct ds_error *err)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 2,
				 SCMP_A0(SCMP_CMP_NE, (uint32_t)getpid()), SCMP_A2(SCMP_CMP_NE, SIGABRT));

	/* What is held by a descriptor can be ended, and no more. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(pidfd_send_signal), 1,
				     SCMP_A1(SCMP_CMP_NE, SIGKILL));
	return r < 0 ? ds_fail(err, r, "the filter of system calls: %s", strerror(-r)) : 0;
}

static void releasep(scmp_filter_ctx *filter)
{
	seccomp_release(*filter);
}

static int filter_system_calls(struct ds_error *err)
{
	ds_cleanup(releasep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = 0;

	if (!filter)
		return ds_fail(err, -ENOMEM, "no memory for the filter of system calls");
	for (size_t i = 0; r == 0 && i < DS_ARRAY_SIZE(refusals); i++)
		r = add(filter, &refusals[i], err);
	if (r == 0)
		r = add_tgkill(filter, err);
	if (r < 0)
		return r;
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_load(filter);
	return r < 0 ? ds_fail(err, r, "the filter of system calls: %s", strerror(-r)) : 0;
}

int ds_confine_broker(struct ds_error *err)
{
	int r;

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return ds_fail(err, -errno, "prctl: %s", strerror(errno));
	r = ds_landlock_signals(err);
	return r < 0 ? r : filter_system_calls(err);
}

#endif

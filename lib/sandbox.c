/* sandbox.c - one file for all helpers, so that one look shows what they may do: the table of system calls.
 *
 * Three layers, each of which would do for most attacks: the filter of system calls (seccomp), Landlock for files,
 * TCP, abstract sockets and signals (as much of it as the kernel has), and limits of the process itself. */
#include "sandbox.h"
#include "landlock.h"

#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const char *const environment[][2] = {
	{"OPENBLAS_NUM_THREADS", "1"},
	{"OMP_NUM_THREADS", "1"},
};

#define OOM_SCORE "500" /* of 1000: a helper can be started again, whoever else runs here cannot */

/* Write @text to the file @path of this process in /proc; a kernel that lacks the file does without. */
static int write_proc(const char *path, const char *text, struct ds_error *err)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return errno == ENOENT ? 0 : ds_fail(err, -errno, "%s: %s", path, strerror(errno));
	fputs(text, file);
	return fclose(file) == 0 ? 0 : ds_fail(err, -errno, "%s: %s", path, strerror(errno));
}

int ds_sandbox_prepare(struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(environment); i++)
		if (setenv(environment[i][0], environment[i][1], 1) < 0)
			return ds_fail(err, -errno, "%s: %s", environment[i][0], strerror(errno));
	return write_proc("/proc/self/oom_score_adj", OOM_SCORE, err);
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

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return ds_fail(err, -errno, "RLIMIT_CORE: %s", strerror(errno));
	return write_proc("/proc/self/coredump_filter", "0", err);
}

#ifdef DS_SANDBOX_NULL

static int confine(enum ds_sandbox profile, struct ds_error *err)
{
	if (profile != DS_SANDBOX_CALLER) /* whose standard error is a person's */
		fprintf(stderr, "<5>%s: this build has no sandbox: system calls, files and memory are not restricted\n",
			program_invocation_short_name);
	return 0;
}

#else

#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41 /* glibc names its mappings, where the kernel can */
#endif

#define ENGINE DS_SANDBOX_ENGINE
#define LOADER (DS_SANDBOX_LOADER | DS_SANDBOX_CALLER)
#define CALLER DS_SANDBOX_CALLER
#define ALL (ENGINE | LOADER)

/* Descriptors that a helper may have: the files of the largest model, of a message, and some. */
#define DESCRIPTORS 4608

/* An int in a register: the kernel looks at its lower half alone. */
#define INT_IS(n, value) {n, SCMP_CMP_MASKED_EQ, 0xffffffff, (uint32_t)(value)}
#define HAS_BITS(n, mask, value) {n, SCMP_CMP_MASKED_EQ, mask, value}
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
/* Namespaces, and what a tracer or a watcher of processes would set. CLONE_NEWTIME lies in the signal's byte. */
#define OTHER_FLAGS                                                                                                    \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP |   \
	 CLONE_PTRACE | CLONE_PIDFD | CLONE_PARENT | CLONE_VFORK | 0xffull)
#define SELF 0xffffffffull /* in the place of a process id: this process */

struct rule {
	const char *name;
	unsigned profiles;
	int refusal; /* errno; 0: allowed */
	unsigned n_args;
	struct scmp_arg_cmp args[2];
};

#define ALLOW(name, profiles) {name, profiles, 0, 0, {}}
#define ALLOW_IF(name, profiles, ...) {name, profiles, 0, sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / \
	sizeof(struct scmp_arg_cmp), {__VA_ARGS__}}
#define REFUSE(name, errno_) {name, ALL, errno_, 0, {}}
#define REFUSE_IF(name, errno_, ...) {name, ALL, errno_, 1, {__VA_ARGS__}}

static const struct rule rules[] = {
	/* Descriptors it has already. */
	ALLOW("read", ALL), ALLOW("readv", ALL), ALLOW("pread64", ALL), ALLOW("preadv", ALL), ALLOW("write", ALL),
	ALLOW("writev", ALL), ALLOW("close", ALL), ALLOW("lseek", ALL), ALLOW("fstat", ALL),
	ALLOW("poll", ALL), ALLOW("ppoll", ALL), ALLOW("sendmsg", ALL), ALLOW("recvmsg", ALL),
	ALLOW("eventfd2", ENGINE),
	ALLOW("pwrite64", LOADER), ALLOW("fadvise64", LOADER), ALLOW("ftruncate", CALLER), ALLOW("fallocate", CALLER),
	ALLOW_IF("fcntl", ALL, INT_IS(1, F_GETFD)), ALLOW_IF("fcntl", ALL, INT_IS(1, F_SETFD)),
	ALLOW_IF("fcntl", ALL, INT_IS(1, F_GETFL)), ALLOW_IF("fcntl", ALL, INT_IS(1, F_SETFL)),
	ALLOW_IF("fcntl", ALL, INT_IS(1, F_GET_SEALS)), ALLOW_IF("fcntl", ALL, INT_IS(1, F_ADD_SEALS)),
	/* Messages of more than 64 KiB travel in one. */
	ALLOW("memfd_create", ALL),
	/* fstat() of newer C libraries: no path but the empty one. */
	ALLOW_IF("newfstatat", ALL, HAS_BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH)),
	REFUSE_IF("newfstatat", EACCES, HAS_BITS(3, AT_EMPTY_PATH, 0)),

	/* Memory, never executable. */
	ALLOW_IF("mmap", ALL, HAS_BITS(2, PROT_EXEC, 0)), REFUSE_IF("mmap", EACCES, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
	ALLOW_IF("mprotect", ALL, HAS_BITS(2, PROT_EXEC, 0)),
	REFUSE_IF("mprotect", EACCES, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
	ALLOW("munmap", ALL), ALLOW("mremap", ALL), ALLOW("madvise", ALL), ALLOW("brk", ALL),

	/* Threads of its own; clone3 hides its flags in memory, so that the C library has to do without. */
	ALLOW_IF("clone", ALL, HAS_BITS(0, THREAD_FLAGS | OTHER_FLAGS, THREAD_FLAGS)), REFUSE("clone3", ENOSYS),
	ALLOW("futex", ALL), ALLOW("set_robust_list", ALL), ALLOW("rseq", ALL), ALLOW("sched_yield", ALL),
	ALLOW("sched_getaffinity", ALL), ALLOW("gettid", ALL), ALLOW("getpid", ALL), ALLOW("exit", ALL),
	ALLOW("exit_group", ALL), ALLOW("membarrier", ALL),
	/* The thread that asks, alone. */
	ALLOW_IF("setpriority", ENGINE, INT_IS(0, PRIO_PROCESS), INT_IS(1, 0)),

	/* Signals to itself. */
	ALLOW_IF("tgkill", ALL, INT_IS(0, SELF)), ALLOW("rt_sigaction", ALL), ALLOW("rt_sigprocmask", ALL),
	ALLOW("rt_sigreturn", ALL), ALLOW("restart_syscall", ALL), ALLOW("sigaltstack", ALL),

	/* Time, chance, and what there is of the machine. */
	ALLOW("clock_gettime", ALL), ALLOW("clock_getres", ALL), ALLOW("clock_nanosleep", ALL),
	ALLOW("nanosleep", ALL), ALLOW("gettimeofday", ALL), ALLOW("time", ALL), ALLOW("getrandom", ALL),
	ALLOW("sysinfo", ALL), ALLOW("getcpu", ALL), ALLOW("getrusage", ALL), ALLOW("uname", ALL),
	ALLOW_IF("prlimit64", ALL, INT_IS(0, 0), {2, SCMP_CMP_EQ, 0, 0}),
	ALLOW_IF("prctl", ALL, INT_IS(0, PR_SET_NAME)), ALLOW_IF("prctl", ALL, INT_IS(0, PR_GET_NAME)),
	ALLOW_IF("prctl", ALL, INT_IS(0, PR_SET_VMA)), ALLOW_IF("prctl", ALL, INT_IS(0, PR_GET_SECCOMP)),
	ALLOW_IF("prctl", ALL, INT_IS(0, PR_GET_NO_NEW_PRIVS)), ALLOW_IF("prctl", ALL, INT_IS(0, PR_GET_DUMPABLE)),

	/* What libraries try and do without: the C library asks /sys and /proc for numbers, and whether a descriptor
	 * is a terminal. The self-check tries two of these. */
	REFUSE("open", EACCES), REFUSE("openat", EACCES), REFUSE("openat2", EACCES), REFUSE("access", EACCES),
	REFUSE("faccessat", EACCES), REFUSE("faccessat2", EACCES), REFUSE("stat", EACCES), REFUSE("lstat", EACCES),
	REFUSE("statx", EACCES), REFUSE("readlink", EACCES), REFUSE("readlinkat", EACCES), REFUSE("socket", EACCES),
	/* OpenBLAS, for its buffers. */
	REFUSE("mbind", EPERM), REFUSE("get_mempolicy", EPERM), REFUSE("set_mempolicy", EPERM), REFUSE("shmget", EPERM),
	REFUSE("ioctl", ENOTTY), REFUSE("sched_setaffinity", EPERM),
};

/* By number, for the handler, which may not call the library that knows them. Written before the filter is in force. */
static char *names[512];

static void name_system_calls(void)
{
	for (int i = 0; i < (int)DS_ARRAY_SIZE(names); i++)
		if (!names[i])
			names[i] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
}

/* SIGSYS comes to the thread that tried, in the middle of anything: only write and exit. A thread that blocks signals
 * is killed by the kernel instead, without a name. */
static void on_forbidden(int signal, siginfo_t *info, void *context)
{
	const char *name = info->si_syscall >= 0 && info->si_syscall < (int)DS_ARRAY_SIZE(names)
				   ? names[info->si_syscall] : NULL;
	const char *const parts[] = {"<3>", program_invocation_short_name, ": the sandbox has no system call ",
				     name ? name : "of this number", "; the process ends\n"};
	char line[256] = "";
	size_t n = 0;

	for (size_t i = 0; i < DS_ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p && n < sizeof(line); p++)
			line[n++] = *p;
	if (write(STDERR_FILENO, line, n) < 0)
		_exit(DS_EXIT_FORBIDDEN);
	_exit(DS_EXIT_FORBIDDEN);
}

static int add_rule(scmp_filter_ctx filter, const struct rule *rule, struct ds_error *err)
{
	int number = seccomp_syscall_resolve_name(rule->name), r;
	uint32_t action = rule->refusal ? SCMP_ACT_ERRNO((uint16_t)rule->refusal) : SCMP_ACT_ALLOW;
	struct scmp_arg_cmp args[2] = {rule->args[0], rule->args[1]};

	if (number < 0)
		return 0; /* this machine has no such call */
	if (rule->n_args > 0 && args[0].datum_b == SELF && args[0].op == SCMP_CMP_MASKED_EQ)
		args[0].datum_b = (uint32_t)getpid();
	r = seccomp_rule_add_array(filter, action, number, rule->n_args, args);
	return r < 0 ? ds_fail(err, r, "the filter of system calls, %s: %s", rule->name, strerror(-r)) : 0;
}

static void releasep(scmp_filter_ctx *filter)
{
	seccomp_release(*filter);
}

static int filter_system_calls(enum ds_sandbox profile, struct ds_error *err)
{
	const struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
	ds_cleanup(releasep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int r = 0;

	if (!filter)
		return ds_fail(err, -ENOMEM, "no memory for the filter of system calls");
	name_system_calls();
	if (sigaction(SIGSYS, &action, NULL) < 0)
		return ds_fail(err, -errno, "SIGSYS cannot be handled: %s", strerror(errno));
	for (size_t i = 0; r == 0 && i < DS_ARRAY_SIZE(rules); i++)
		if (rules[i].profiles & profile)
			r = add_rule(filter, &rules[i], err);
	if (r < 0)
		return r;
	/* Another architecture's numbers (int 0x80, x32) are no way around. */
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree: the calls are many */
	if (r == 0)
		r = seccomp_load(filter);
	return r < 0 ? ds_fail(err, r, "the filter of system calls: %s", strerror(-r)) : 0;
}

static int limit_descriptors(struct ds_error *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return ds_fail(err, -errno, "RLIMIT_NOFILE: %s", strerror(errno));
	if (limit.rlim_max > DESCRIPTORS)
		limit.rlim_max = DESCRIPTORS;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? ds_fail(err, -errno, "RLIMIT_NOFILE: %s", strerror(errno)) : 0;
}

/* Each was to be refused, and none would have ended us. */
static int check(struct ds_error *err)
{
	struct rlimit limit;
	void *p;

	if (syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_CLOEXEC, 0) >= 0 || errno != EACCES)
		return ds_fail(err, -EPERM, "the sandbox does not hold: a file could be opened");
	if (socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 || errno != EACCES)
		return ds_fail(err, -EPERM, "the sandbox does not hold: a socket could be made");
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p != MAP_FAILED || errno != EACCES)
		return ds_fail(err, -EPERM, "the sandbox does not hold: memory could be made executable");
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return ds_fail(err, -EPERM, "the sandbox does not hold: the process is not confined");
	if (getrlimit(RLIMIT_CORE, &limit) < 0 || limit.rlim_max != 0)
		return ds_fail(err, -EPERM, "the sandbox does not hold: the process could dump its memory");
	return 0;
}

static int confine(enum ds_sandbox profile, struct ds_error *err)
{
	int r = limit_descriptors(err);

	/* Of the kernel's own accord since 6.3; the filter says the same of mmap and mprotect. */
	prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = ds_fail(err, -errno, "PR_SET_DUMPABLE: %s", strerror(errno));
	if (r == 0)
		r = ds_landlock_nothing(err);
	if (r == 0)
		r = filter_system_calls(profile, err);
	return r < 0 ? r : check(err);
}

#endif

int ds_sandbox_enter(enum ds_sandbox profile, struct ds_error *err)
{
	int n = count_threads(err), r;

	if (n < 0)
		return n;
	if (n != 1)
		return ds_fail(err, -EBUSY, "the process has %d threads after opening its plugins, it must have one",
			       n);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return ds_fail(err, -errno, "no_new_privs: %s", strerror(errno));
	r = refuse_core_dumps(err);
	return r < 0 ? r : confine(profile, err);
}

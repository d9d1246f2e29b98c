/* spawn-helper.c - starts a helper: fixed environment, default signals, no descriptors but its own, dies with its
 * parent. */
#include "spawn-helper.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK_SIZE (64 << 10)

/* What the new process needs of the old one's memory, which it shares until exec. */
struct start {
	const char *const *argv;
	char *const *envp;
	int fd, target;
	pid_t parent;
	sigset_t signals;
	int exec_errno;
};

/* Until exec: system calls only, on memory that is the parent's; no sanitizer's marks on a stack that goes away. */
__attribute__((no_sanitize_address)) static int become_helper(void *arg)
{
	static const int defaults[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	struct sigaction action = {.sa_handler = SIG_DFL};
	struct start *s = arg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != s->parent)
		_exit(126);
	for (size_t i = 0; i < DS_ARRAY_SIZE(defaults); i++)
		sigaction(defaults[i], &action, NULL);
	sigprocmask(SIG_SETMASK, &s->signals, NULL);
	if (dup2(s->fd, s->target) < 0)
		_exit(126);
	/* dup2() of a descriptor onto itself would have left close-on-exec set. */
	if (s->fd == s->target)
		fcntl(s->fd, F_SETFD, 0);
	syscall(SYS_close_range, s->target < DS_SPAWN_SOCKET ? (unsigned)DS_SPAWN_SOCKET : s->target + 1u, ~0u, 0u);
	execve(s->argv[0], (char *const *)s->argv, s->envp);
	s->exec_errno = errno;
	_exit(127);
}

/* As vfork() and exec, but with a descriptor of the process that is there from its beginning: who may not signal
 * processes by number can end this one. The parent sleeps until exec. */
static pid_t start_process(struct start *s, int *pidfd)
{
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	sigset_t all;
	pid_t pid;

	if (stack == MAP_FAILED)
		return -errno;
	/* No handler of the caller may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &s->signals);
	pid = clone(become_helper, (char *)stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, s, pidfd);
	if (pid < 0)
		pid = -errno;
	sigprocmask(SIG_SETMASK, &s->signals, NULL);
	munmap(stack, STACK_SIZE);
	return pid;
}

pid_t ds_spawn(const char *const *argv, int fd, int target, int *pidfd)
{
	static char path[] = "PATH=/usr/bin:/bin", blas[] = "OPENBLAS_NUM_THREADS=1", omp[] = "OMP_NUM_THREADS=1";
	char cpu[256];
	char *envp[] = {path, blas, omp, NULL, NULL};
	const char *cpu_flags = getenv("DEEPSEEKD_CPU"); /* which instruction sets may be used: for tests */
	struct start start = {.argv = argv, .envp = envp, .fd = fd, .target = target, .parent = getpid()};
	ds_cleanup(ds_closep) int process = -1;
	pid_t pid;

	if (cpu_flags) {
		snprintf(cpu, sizeof(cpu), "DEEPSEEKD_CPU=%s", cpu_flags);
		envp[3] = cpu;
	}
	pid = start_process(&start, &process);
	if (pid < 0)
		return pid;
	if (start.exec_errno != 0) {
		waitpid(pid, NULL, 0);
		return -start.exec_errno;
	}
	if (pidfd)
		*pidfd = ds_steal_fd(&process);
	return pid;
}

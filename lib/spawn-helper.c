/* spawn-helper.c - starts a helper: fixed environment, default signals, no descriptors but its own, dies with its
 * parent. */
#include "spawn-helper.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Between vfork() and exec: system calls only, on memory that is the parent's. */
static void become_helper(const char *const *argv, char *const *envp, int fd, int target, pid_t parent,
			  const sigset_t *signals)
{
	static const int defaults[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	struct sigaction action = {.sa_handler = SIG_DFL};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	for (size_t i = 0; i < DS_ARRAY_SIZE(defaults); i++)
		sigaction(defaults[i], &action, NULL);
	sigprocmask(SIG_SETMASK, signals, NULL);
	if (dup2(fd, target) < 0)
		_exit(126);
	/* dup2() of a descriptor onto itself would have left close-on-exec set. */
	if (fd == target)
		fcntl(fd, F_SETFD, 0);
	syscall(SYS_close_range, target < DS_SPAWN_SOCKET ? (unsigned)DS_SPAWN_SOCKET : target + 1u, ~0u, 0u);
	execve(argv[0], (char *const *)argv, envp);
}

pid_t ds_spawn(const char *const *argv, int fd, int target)
{
	static char path[] = "PATH=/usr/bin:/bin", blas[] = "OPENBLAS_NUM_THREADS=1", omp[] = "OMP_NUM_THREADS=1";
	char cpu[256];
	char *envp[] = {path, blas, omp, NULL, NULL};
	const char *cpu_flags = getenv("DEEPSEEKD_CPU"); /* which instruction sets may be used: for tests */
	volatile int exec_errno = 0;
	sigset_t all, before;
	pid_t parent = getpid(), pid;

	if (cpu_flags) {
		snprintf(cpu, sizeof(cpu), "DEEPSEEKD_CPU=%s", cpu_flags);
		envp[3] = cpu;
	}
	/* No handler of the caller may run in the child, which shares its memory until exec. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	if (pid == 0) {
		become_helper(argv, envp, fd, target, parent, &before);
		exec_errno = errno;
		_exit(127);
	}
	if (pid < 0)
		exec_errno = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (exec_errno == 0)
		return pid;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return -exec_errno;
}

/* forbidden.c - tries in the sandboxes of the helpers what nobody may do there, each in a process of its own.
 *
 *     forbidden engine|loader|caller|broker|none BROKER ENGINE IMAGE SOCKET FILE
 *
 * BROKER and ENGINE are the ids of live processes, IMAGE the number of a descriptor of a sealed image, SOCKET the path of
 * the broker's socket, FILE a file that nobody misses. Prints a line a row: its name, and "killed", "done" or the errno.
 * With "broker" it is the broker's own filter, and the rows are those that aim at other processes.
 * With "none" there is no sandbox: only rows that harm nobody are tried then, to show that they are possible. */
#include "confine.h"
#include "sandbox.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Whom and what the rows aim at; descriptors were opened before the sandbox was entered. */
static struct {
	pid_t broker, engine;
	int image, socket, inet, pidfd, memfd, null;
	struct sockaddr_un address;
	const char *file;
	void *page, *image_page;
} aim;

static char buffer[4096];
static struct iovec here = {buffer, sizeof(buffer)}, there = {buffer, sizeof(buffer)};

#define CALL(name, ...) syscall(SYS_##name, __VA_ARGS__)

/* Name, what it is, the call. */
enum {
	HARMFUL = 0,
	HARMLESS = 1, /* may be tried without a sandbox */
	OTHERS = 2,   /* aims at another process */
};

#define ROWS(ROW)                                                                                                      \
	ROW("open a file", HARMLESS, CALL(openat, AT_FDCWD, "/etc/passwd", O_RDONLY))                                  \
	ROW("open a file in the way of openat2", HARMLESS, CALL(openat2, AT_FDCWD, "/etc/passwd", &(uint64_t[3]){0}, 24)) \
	ROW("create a file", HARMFUL, CALL(openat, AT_FDCWD, "/tmp/forbidden", O_RDWR | O_CREAT, 0600))                \
	ROW("look at a file", HARMLESS, CALL(statx, AT_FDCWD, "/etc/passwd", 0, 0x7ff, buffer))                        \
	ROW("read a link", HARMLESS, CALL(readlinkat, AT_FDCWD, "/proc/self/exe", buffer, sizeof(buffer)))             \
	ROW("open the image again", HARMFUL, open_image())                                                            \
	ROW("open the broker's memory", HARMFUL, open_memory(aim.broker))                                             \
	ROW("open the engine's memory", HARMFUL, open_memory(aim.engine))                                             \
	ROW("truncate a file by name", HARMLESS, CALL(truncate, aim.file, 0))                                          \
	ROW("rename a file", HARMLESS, CALL(renameat2, AT_FDCWD, aim.file, AT_FDCWD, aim.file, 0))                     \
	ROW("unlink a file", HARMFUL, CALL(unlinkat, AT_FDCWD, aim.file, 0))                                           \
	ROW("link a file", HARMFUL, CALL(linkat, AT_FDCWD, aim.file, AT_FDCWD, "/tmp/forbidden", 0))                   \
	ROW("make a symbolic link", HARMFUL, CALL(symlinkat, "/", AT_FDCWD, "/tmp/forbidden"))                         \
	ROW("make a directory", HARMFUL, CALL(mkdirat, AT_FDCWD, "/tmp/forbidden", 0700))                              \
	ROW("make a device", HARMFUL, CALL(mknodat, AT_FDCWD, "/tmp/forbidden", S_IFCHR | 0600, 0x103))                \
	ROW("change a file's mode", HARMLESS, CALL(fchmodat, AT_FDCWD, aim.file, 0600))                                \
	ROW("change a file's owner", HARMLESS, CALL(fchownat, AT_FDCWD, aim.file, -1, -1, 0))                          \
	ROW("change the directory", HARMLESS, CALL(chdir, "/"))                                                        \
	ROW("change the root", HARMFUL, CALL(chroot, "/"))                                                             \
	ROW("watch files", HARMLESS, CALL(inotify_init1, 0))                                                           \
	ROW("watch file systems", HARMFUL, CALL(fanotify_init, 0, 0))                                                  \
	ROW("make a local socket", HARMLESS, CALL(socket, AF_UNIX, SOCK_STREAM, 0))                                    \
	ROW("make an internet socket", HARMLESS, CALL(socket, AF_INET, SOCK_STREAM, 0))                                \
	ROW("make a pair of sockets", HARMLESS, CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, buffer))                     \
	ROW("connect to the broker", HARMLESS, CALL(connect, aim.socket, &aim.address, sizeof(aim.address)))           \
	ROW("listen", HARMLESS, CALL(listen, aim.inet, 1))                                                             \
	ROW("send to an address", HARMFUL, CALL(sendto, aim.socket, buffer, 1, 0, &aim.address, sizeof(aim.address)))  \
	ROW("execute", HARMFUL, CALL(execve, "/bin/true", NULL, NULL))                                                 \
	ROW("execute a descriptor", HARMFUL, CALL(execveat, aim.memfd, "", NULL, NULL, AT_EMPTY_PATH))                 \
	ROW("fork", HARMLESS, fork_())                                                                                 \
	ROW("clone with clone3", HARMFUL, CALL(clone3, &(uint64_t[8]){0}, 64))                                         \
	ROW("clone into a new user namespace", HARMFUL, clone_newuser())                                               \
	ROW("leave a namespace", HARMFUL, CALL(unshare, CLONE_NEWUSER))                                                \
	ROW("enter the broker's namespaces", HARMFUL, CALL(setns, aim.pidfd, CLONE_NEWNET))                            \
	ROW("mount", HARMFUL, CALL(mount, "none", "/mnt", "tmpfs", 0, NULL))                                           \
	ROW("mount in the way of fsopen", HARMFUL, CALL(fsopen, "tmpfs", 0))                                           \
	ROW("unmount", HARMFUL, CALL(umount2, "/mnt", MNT_EXPIRE))                                                     \
	ROW("trace the broker", OTHERS, CALL(ptrace, PTRACE_SEIZE, aim.broker, NULL, NULL))                           \
	ROW("trace the engine", OTHERS, CALL(ptrace, PTRACE_SEIZE, aim.engine, NULL, NULL))                           \
	ROW("read the broker's memory", OTHERS, CALL(process_vm_readv, aim.broker, &here, 1, &there, 1, 0))           \
	ROW("read the engine's memory", OTHERS, CALL(process_vm_readv, aim.engine, &here, 1, &there, 1, 0))           \
	ROW("write the broker's memory", OTHERS, CALL(process_vm_writev, aim.broker, &here, 1, &there, 1, 0))         \
	ROW("write the engine's memory", OTHERS, CALL(process_vm_writev, aim.engine, &here, 1, &there, 1, 0))         \
	ROW("signal the broker", HARMLESS | OTHERS, CALL(kill, aim.broker, 0))                                                  \
	ROW("signal the engine", HARMLESS | OTHERS, CALL(kill, aim.engine, 0))                                                  \
	ROW("signal everybody", OTHERS, CALL(kill, -1, 0))                                                            \
	ROW("signal a thread of the broker", HARMLESS | OTHERS, CALL(tgkill, aim.broker, aim.broker, 0))                        \
	ROW("signal a thread of the engine", HARMLESS | OTHERS, CALL(tgkill, aim.engine, aim.engine, 0))                        \
	ROW("signal a thread by its number", HARMLESS | OTHERS, CALL(tkill, aim.broker, 0))                                     \
	ROW("queue a signal", OTHERS, CALL(rt_sigqueueinfo, aim.broker, 0, buffer))                                   \
	ROW("signal by descriptor", HARMLESS | OTHERS, CALL(pidfd_send_signal, aim.pidfd, 0, NULL, 0))                          \
	ROW("have a descriptor of the broker", HARMLESS | OTHERS, CALL(pidfd_open, aim.broker, 0))                              \
	ROW("have a descriptor of the engine", HARMLESS | OTHERS, CALL(pidfd_open, aim.engine, 0))                              \
	ROW("take a descriptor of the broker", OTHERS, CALL(pidfd_getfd, aim.pidfd, 0, 0))                            \
	ROW("limit the broker", OTHERS, CALL(prlimit64, aim.broker, RLIMIT_CORE, &(uint64_t[2]){0}, NULL))            \
	ROW("limit the engine", OTHERS, CALL(prlimit64, aim.engine, RLIMIT_CORE, &(uint64_t[2]){0}, NULL))            \
	ROW("raise an own limit", HARMLESS, CALL(prlimit64, 0, RLIMIT_STACK, &(uint64_t[2]){1 << 23, 1 << 23}, NULL))  \
	ROW("compare processes", OTHERS, CALL(kcmp, aim.broker, aim.engine, 0, 0, 0))                                 \
	ROW("advise the broker's memory", OTHERS, CALL(process_madvise, aim.pidfd, &here, 1, MADV_COLD, 0))           \
	ROW("slow the broker down", HARMFUL, CALL(setpriority, PRIO_PROCESS, aim.broker, 19))                          \
	ROW("move the engine", HARMFUL, CALL(sched_setaffinity, aim.engine, sizeof(buffer), buffer))                   \
	ROW("become a real-time process", HARMFUL, CALL(sched_setscheduler, 0, SCHED_FIFO, &(int){1}))                 \
	ROW("write the image", HARMFUL, CALL(write, aim.image, buffer, 1))                                             \
	ROW("write the image at a place", HARMFUL, CALL(pwrite64, aim.image, buffer, 1, 0L))                           \
	ROW("cut the image", HARMFUL, CALL(ftruncate, aim.image, 0L))                                                  \
	ROW("seal the image", HARMFUL, CALL(fcntl, aim.image, F_ADD_SEALS, F_SEAL_SEAL))                               \
	ROW("map the image to write", HARMFUL, map_(4096, PROT_READ | PROT_WRITE, MAP_SHARED, aim.image))              \
	ROW("make the image writable", HARMFUL, CALL(mprotect, aim.image_page, 4096, PROT_READ | PROT_WRITE))          \
	ROW("map the image to execute", HARMFUL, map_(4096, PROT_READ | PROT_EXEC, MAP_SHARED, aim.image))             \
	ROW("map memory to execute", HARMLESS, map_(4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1))     \
	ROW("make memory executable", HARMLESS, CALL(mprotect, aim.page, 4096, PROT_READ | PROT_EXEC))                 \
	ROW("make memory executable with a key", HARMFUL, CALL(pkey_mprotect, aim.page, 4096, PROT_READ | PROT_EXEC, -1)) \
	ROW("share memory", HARMFUL, CALL(shmget, 0, 4096, 0600))                                                      \
	ROW("load a program into the kernel", HARMFUL, CALL(bpf, 0, buffer, 64))                                       \
	ROW("handle page faults", HARMFUL, CALL(userfaultfd, 0))                                                       \
	ROW("use io_uring", HARMFUL, CALL(io_uring_setup, 4, memset(buffer, 0, 256)))                                  \
	ROW("measure", HARMFUL, CALL(perf_event_open, memset(buffer, 0, 256), 0, -1, -1, 0))                           \
	ROW("use keys", HARMLESS, CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1, 0, 0))              \
	ROW("become another user", HARMLESS, CALL(setresuid, -1, -1, -1))                                              \
	ROW("join groups", HARMFUL, CALL(setgroups, 0, NULL))                                                          \
	ROW("change capabilities", HARMFUL, CALL(capset, &(uint32_t[2]){0x20080522, 0}, &(uint32_t[6]){0}))            \
	ROW("become dumpable", HARMLESS, CALL(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0))                                     \
	ROW("let somebody trace", HARMFUL, CALL(prctl, PR_SET_PTRACER, -1, 0, 0, 0))                                   \
	ROW("move the own break and names", HARMFUL, CALL(prctl, PR_SET_MM, 0, 0, 0, 0))                               \
	ROW("outlive the broker", HARMLESS, CALL(prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0))                                 \
	ROW("add a filter", HARMFUL, CALL(seccomp, 0, 0, NULL))                                                        \
	ROW("type into the terminal", HARMFUL, CALL(ioctl, aim.null, 0x5412, "x"))                                     \
	ROW("read the kernel's log", HARMFUL, CALL(syslog, 10, NULL, 0))                                               \
	ROW("set the clock", HARMFUL, CALL(settimeofday, NULL, NULL))                                                  \
	ROW("name the machine", HARMFUL, CALL(sethostname, buffer, -1))                                                \
	ROW("load a module", HARMFUL, CALL(init_module, NULL, 0, ""))                                                  \
	ROW("change the personality", HARMLESS, CALL(personality, 0xffffffff))                                         \
	ROW("open by handle", HARMFUL, CALL(open_by_handle_at, aim.null, buffer, 0))                                   \
	ROW("duplicate a descriptor onto another", HARMLESS, CALL(dup3, aim.null, aim.null + 1, 0))                    \
	ROW("make a pipe", HARMLESS, CALL(pipe2, buffer, 0))                                                           \
	ROW("call by another table of numbers", HARMFUL, other_table())

static long open_image(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", aim.image);
	return CALL(openat, AT_FDCWD, path, O_RDWR);
}

static long open_memory(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	return CALL(openat, AT_FDCWD, path, O_RDWR);
}

static long map_(size_t size, int prot, int flags, int fd)
{
	return mmap(NULL, size, prot, flags, fd, 0) == MAP_FAILED ? -1 : 0;
}

static long fork_(void)
{
	long child = CALL(clone, SIGCHLD, 0, 0, 0, 0);

	if (child == 0)
		_exit(0);
	return child;
}

static long clone_newuser(void)
{
	long child = CALL(clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (child == 0)
		_exit(0);
	return child;
}

/* getpid by the numbers of 32-bit programs: the filter must not take it for the call of the same number. */
static long other_table(void)
{
#ifdef __x86_64__
	long r = 20;

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? (errno = (int)-r, -1) : r;
#else
	errno = ENOSYS;
	return -1;
#endif
}

/* Rows are numbered as they stand. */
static long try_row(int wanted)
{
	int row = 0;

#define CASE(name, harm, call)                                                                                         \
	if (row++ == wanted)                                                                                           \
		return call;
	ROWS(CASE)
	return 0;
}

static const struct {
	const char *name;
	int harm;
} rows[] = {
#define NAME(name, harm, call) {name, harm},
	ROWS(NAME)
};

#define BROKER -1

/* In a child: there is no way back out. It exits with 0 if the row could be done, else with the errno. */
static void try_confined(int row, int profile)
{
	struct ds_error err;
	long r;

	dup2(aim.null, STDERR_FILENO);
	if (profile == BROKER && ds_confine_broker(&err) < 0) {
		dprintf(STDOUT_FILENO, "the broker cannot be confined: %s\n", err.text);
		_exit(0);
	}
	if (profile && profile != BROKER && (ds_sandbox_prepare(&err) < 0 || ds_sandbox_enter((enum ds_sandbox)profile, &err) < 0)) {
		dprintf(STDOUT_FILENO, "the sandbox cannot be entered: %s\n", err.text);
		_exit(0);
	}
	errno = 0;
	r = try_row(row);
	_exit(r < 0 ? errno : 0);
}

static void run(int row, int profile)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		try_confined(row, profile);
	waitpid(child, &status, 0);
	if ((WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) || (WIFEXITED(status) && WEXITSTATUS(status) == DS_EXIT_FORBIDDEN))
		printf("%s: killed\n", rows[row].name);
	else if (WIFSIGNALED(status))
		printf("%s: signal %d\n", rows[row].name, WTERMSIG(status));
	else
		printf("%s: %s\n", rows[row].name, WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "done");
	fflush(stdout);
}

static bool is_tried(int row, int profile)
{
	return profile == BROKER ? rows[row].harm & OTHERS : profile || rows[row].harm & HARMLESS;
}

static int profile_of(const char *name)
{
	return !strcmp(name, "engine") ? DS_SANDBOX_ENGINE : !strcmp(name, "loader") ? DS_SANDBOX_LOADER
	       : !strcmp(name, "caller") ? DS_SANDBOX_CALLER : !strcmp(name, "broker") ? BROKER : 0;
}

int main(int argc, char **argv)
{
	int profile;

	if (argc != 7)
		return 2;
	profile = profile_of(argv[1]);
	aim.broker = atoi(argv[2]);
	aim.engine = atoi(argv[3]);
	aim.image = atoi(argv[4]);
	aim.address.sun_family = AF_UNIX;
	snprintf(aim.address.sun_path, sizeof(aim.address.sun_path), "%s", argv[5]);
	aim.file = argv[6];
	aim.socket = socket(AF_UNIX, SOCK_STREAM, 0);
	aim.inet = socket(AF_INET, SOCK_STREAM, 0);
	aim.pidfd = (int)syscall(SYS_pidfd_open, aim.broker, 0);
	aim.memfd = memfd_create("program", 0);
	aim.null = open("/dev/null", O_RDWR);
	aim.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	aim.image_page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, aim.image, 0);
	if (aim.pidfd < 0 || aim.image_page == MAP_FAILED)
		return 2;
	for (int row = 0; row < (int)DS_ARRAY_SIZE(rows); row++)
		if (is_tried(row, profile))
			run(row, profile);
	return 0;
}

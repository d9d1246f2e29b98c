/* sandbox.h - what a helper gives up before it reads the first byte that nobody vouches for.
 *
 * The order of every helper: ds_sandbox_prepare(), open the plugins, ds_sandbox_enter(), start threads, serve.
 *
 * Afterwards the process has the system calls of its profile and no others. What libraries merely try (open a file, ask
 * a terminal) is refused with an errno; anything else ends the process with SIGSYS or DS_EXIT_FORBIDDEN after its name
 * was written to standard error. Memory cannot become executable, no file or socket can be opened, no process made, seen
 * or signalled. Builds with a sanitizer, and configure --disable-sandbox for debuggers, only lose privileges and core
 * dumps, and say so. */
#pragma once

#include <deepseekd/base.h>

/* The exit status of a process that tried what its profile does not have: 128 + SIGSYS, as shells write it. */
#define DS_EXIT_FORBIDDEN 159

#if !defined(DS_SANDBOX_NULL) && (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define DS_SANDBOX_NULL 1
#endif
#if !defined(DS_SANDBOX_NULL) && defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define DS_SANDBOX_NULL 1
#endif
#endif

enum ds_sandbox {
	DS_SANDBOX_ENGINE = 1 << 0, /* ds-engine: reads images, talks, computes */
	DS_SANDBOX_LOADER = 1 << 1, /* ds-loader of the broker: preads files, pwrites the image it was given */
	DS_SANDBOX_CALLER = 1 << 2, /* ds-loader of dsctl: also gives the new file that it writes its size */
};

/* Before plugins are opened: fix what libraries read from the environment when they are loaded, so that none starts
 * threads of its own (OpenBLAS and OpenMP do), and be the first to go when memory runs out. */
int ds_sandbox_prepare(struct ds_error *err);

/* Once the plugins are open; it holds for threads that are started later. It was tried before this returns 0.
 * -EBUSY: the process has more than one thread; restrictions bind the calling one alone, so another would stay outside.
 * -EPERM: something that had to be refused was not. After a failure the process may be left half confined: end it. */
int ds_sandbox_enter(enum ds_sandbox profile, struct ds_error *err);

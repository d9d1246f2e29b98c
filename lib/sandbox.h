/* sandbox.h - what a helper gives up before it reads the first byte that nobody vouches for.
 *
 * The order of every helper: ds_sandbox_prepare(), open the plugins, ds_sandbox_enter(), start threads, serve.
 * In this release the sandbox takes away new privileges and core dumps; it filters neither system calls nor paths. */
#pragma once

#include <deepseekd/base.h>

/* Before plugins are opened: fix what libraries read from the environment when they are loaded, so that none starts
 * threads of its own (OpenBLAS and OpenMP do). */
int ds_sandbox_prepare(struct ds_error *err);

/* Once the plugins are open. -EBUSY: the process has more than one thread; restrictions bind the calling one alone, so
 * another would stay outside. */
int ds_sandbox_enter(struct ds_error *err);

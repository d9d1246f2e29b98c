/* landlock.h - as much of Landlock as the kernel has: it holds for the calling thread and all that come from it.
 *
 * Linux 5.13 knows files, 6.7 TCP, 6.12 abstract sockets and signals. Where there is none at all these do nothing:
 * nothing relies on Landlock alone. No new privileges must be set before. */
#pragma once

#include <deepseekd/base.h>

/* No file, no TCP, no abstract socket and no signal beyond this process and its children. */
int ds_landlock_nothing(struct ds_error *err);

/* Signals reach this process and its children, and nobody else. */
int ds_landlock_signals(struct ds_error *err);

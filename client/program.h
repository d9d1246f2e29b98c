/* program.h - another program of the system, run as the caller, and what it says. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

/* Run @argv (found by PATH if it has no slash); its standard output and error become an array of lines, which the
 * caller owns. Returns its exit status; -ENOENT: there is no such program; -EREMOTEIO: it could not be run, or was
 * killed. */
int ds_program_lines(const char *const *argv, json_t **lines, struct ds_error *err);

/* Wait for @pid; its exit status, or -EREMOTEIO if a signal ended it. */
int ds_program_wait(pid_t pid, const char *name, struct ds_error *err);

/* deepseekd itself: DEEPSEEKD_DAEMON, or where it was installed. */
const char *ds_program_daemon(void);

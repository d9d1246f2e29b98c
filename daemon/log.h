/* log.h - one line a fact on stderr, with the prefix "<N>" for the journal when it reads stderr.
 *
 * No line ever holds text of a prompt or of an answer. The threshold is libc's own (setlogmask), so that this file has
 * no state of its own. */
#pragma once

#include <syslog.h>

/* Write one line if @priority (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG) passes the threshold. */
void ds_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

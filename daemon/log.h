/* log.h - one line a fact: to the journal with fields when it reads stderr, else as text on stderr.
 *
 * No line and no field ever holds text of a prompt or of an answer. The threshold is libc's own (setlogmask), so that
 * this file has no state of its own. */
#pragma once

#include <syslog.h>

/* One field of the journal: @name in capitals, without "=". @value NULL or "": left out. */
struct ds_log_field {
	const char *name, *value;
};

#define DS_LOG_FIELDS 20 /* at most, of one event */

/* Write one line if @priority (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG) passes the threshold. */
void ds_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for an event of message-ids.h. @fields end with a NULL name; on stderr they are not shown: the line says
 * what matters. */
void ds_log_event(int priority, const char *message_id, const struct ds_log_field *fields, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

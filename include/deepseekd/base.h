/* base.h - errors and ownership, the vocabulary every file of the project shares.
 *
 * A function returns 0 or a negative errno. The sentence that a person will read is written once, where the cause
 * is known, into a caller-owned struct ds_error; callers forward the code unchanged (`return r;`).
 * Owned locals carry ds_cleanup(); success steals them into the output; on failure outputs are untouched. */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DS_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The sentence; the code is the return value. */
struct ds_error {
	char text[256];
};

/* Write the sentence (@err may be NULL) and hand back @code, a negative errno. */
__attribute__((format(printf, 3, 4)))
static inline int ds_fail(struct ds_error *err, int code, const char *fmt, ...)
{
	va_list args;

	if (err) {
		va_start(args, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
	}
	return code;
}

#define ds_cleanup(fn) __attribute__((cleanup(fn)))

/* Take the pointer out of a variable, leaving NULL, so that its cleanup does nothing. */
#define ds_steal(pp) ({ __typeof__(*(pp)) p_ = *(pp); *(pp) = NULL; p_; })

/* ds_noun_freep() for ds_cleanup, from ds_noun_free(). */
#define DS_DEFINE_FREEP(noun)                                   \
	static inline void noun##_freep(struct noun **p)        \
	{                                                       \
		if (*p)                                         \
			noun##_free(*p);                        \
	}

static inline void ds_freep(void *p)
{
	free(*(void **)p);
}

static inline void ds_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* Take the descriptor out of a variable, leaving -1. */
static inline int ds_steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

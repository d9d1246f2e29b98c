/* helpers.h - the processes of the broker: started clean, watched, spoken to in datagrams, reaped.
 *
 * A helper begins with a fixed environment, descriptors 0, 1, 2 and its channel as 3, no signal blocked, and dies with
 * the broker. Every byte it sends is untrusted: a breach of lib/message.h kills it. However it ends, on_exit is called
 * exactly once, after its last message, and the helper is freed when on_exit returns. */
#pragma once

#include <deepseekd/base.h>
#include <message.h>

struct event_base;
struct ds_helpers;
struct ds_helper;

struct ds_helper_events {
	/* A whole message, borrowed. A negative return is a breach: @err is logged and the helper killed. */
	int (*on_message)(void *arg, struct ds_message *message, struct ds_error *err);
	/* It has ended. @reason is a sentence: "exited with 1", "was killed by signal 9", or how it broke the rules. */
	void (*on_exit)(void *arg, bool clean, const char *reason);
	/* Instead of a channel: what it writes to its standard output, text_size 0 at the end. */
	void (*on_output)(void *arg, const char *text, size_t text_size);
};

int ds_helpers_new(struct ds_helpers **out, struct event_base *base, struct ds_error *err);
/* Kills what still runs; on_exit of each is called, and must not start another. */
struct ds_helpers *ds_helpers_free(struct ds_helpers *helpers); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_helpers)

/* Start @argv (argv[0] is a path). With on_output set it has no channel. *@out is borrowed, valid until on_exit. */
int ds_helper_start(struct ds_helper **out, struct ds_helpers *helpers, const char *const *argv,
		    const struct ds_helper_events *events, void *arg, struct ds_error *err);

/* Send, or queue while its socket is full; the descriptors are duplicated when queued. Errors show as its end. */
void ds_helper_send(struct ds_helper *h, uint16_t type, uint64_t request, const void *data, size_t size, const int *fds,
		    unsigned n_fds);

/* SIGKILL; on_exit follows with @reason if it is given. */
void ds_helper_kill(struct ds_helper *h, const char *reason);

/* It has said its last word: it is killed unless it exits within a few seconds. */
void ds_helper_expect_end(struct ds_helper *h);

/* In on_exit: the status it exited with, or -1. */
int ds_helper_exit_status(const struct ds_helper *h);
pid_t ds_helper_pid(const struct ds_helper *h);

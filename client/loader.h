/* loader.h - runs ds-loader as the caller, for what dsctl does with files on its own: no daemon needs to be up.
 *
 * dsctl opens the files, ds-loader reads them, in the sandbox that it enters before every load. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

struct ds_loader_call {
	const char *path;   /* whose files are handed over: a directory, a file, one of a split set */
	uint16_t request;   /* a DS_MSG_ of helpers/requests.h */
	const json_t *json; /* its payload; NULL: none */
	int fd;             /* goes with it; 0: none */
	/* Told how far it is; optional. */
	void (*on_progress)(void *self, uint64_t done, uint64_t total);
	void *self;
};

/* Ask, and wait for the answer, which the caller owns. -ENOENT: no such file. -EINTR: SIGINT, SIGTERM or SIGHUP
 * came, and ds-loader is gone. */
int ds_loader_run(const struct ds_loader_call *call, json_t **answer, struct ds_error *err);

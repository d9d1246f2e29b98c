/* http.h - requests to the daemon's public HTTP over its Unix socket.
 *
 * One exchange is one request and its answer; several are performed at once on connections of their own. Statuses turn
 * into negative errnos here and nowhere else in the client (see statuses[] in http.c), with the daemon's own sentence.
 */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

struct ds_http;

/* Borrows @socket, a path. @timeout in seconds for each call of perform, 0: none. */
int ds_http_new(struct ds_http **out, const char *socket, double timeout, struct ds_error *err);
struct ds_http *ds_http_free(struct ds_http *http); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_http)

struct ds_exchange {
	const char *method, *path; /* borrowed */
	const json_t *body;        /* borrowed; NULL: none */
	/* Gets the body of a successful answer as it arrives; a negative return ends the exchange with that code.
	 * NULL: the body is collected in @data. The bodies of errors never come here. */
	int (*on_data)(void *self, const char *data, size_t size, struct ds_error *err);
	void *self;

	int result;  /* 0 or a negative errno, of this exchange */
	long status; /* of HTTP; 0: there was no answer */
	char *data;  /* [size], and a NUL after it; freed by ds_exchange_deinit() */
	size_t size;
};

void ds_exchange_deinit(struct ds_exchange *e);

/* Perform @n exchanges at the same time, until all have ended. The code and sentence of the first that failed; the
 * others are still finished. SIGINT ends them all: -EINTR. -ECONNREFUSED: nobody listens. */
int ds_http_perform(struct ds_http *http, struct ds_exchange *exchanges, size_t n, struct ds_error *err);

/* One exchange whose answer is a JSON object, which then belongs to the caller. */
int ds_http_call(struct ds_http *http, const char *method, const char *path, const json_t *body, json_t **out,
		 struct ds_error *err);

/* Wait @msec milliseconds; -EINTR if SIGINT comes meanwhile. */
int ds_http_sleep(struct ds_http *http, int msec, struct ds_error *err);

/* "/admin/v1/models/NAME/VERB" with NAME escaped; NULL: no memory. The caller frees it. */
char *ds_http_model_path(const char *name, const char *verb);
/* The same below "/v1", which everybody may ask. */
char *ds_http_user_path(const char *name, const char *verb);
/* "FOLDER/NAME" with NAME escaped, likewise. */
char *ds_http_path(const char *folder, const char *name);

static inline void ds_json_freep(json_t **json)
{
	json_decref(*json);
}

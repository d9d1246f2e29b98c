/* server.h - HTTP over a Unix socket, and over TCP: connections, calls, and the table of routes.
 *
 * A call is one request of a client and its answer. A route's function gets it and answers, now or later, with
 * http/reply.h; the call is freed when the answer is complete. If the client goes away before, on_gone is called, and
 * then the call is freed. */
#pragma once

#include "../access.h"
#include "../daemon.h"
#include "body.h"

#include <event2/http.h>

struct ds_http;

struct ds_call {
	struct ds_daemon *daemon;
	struct evhttp_request *req;
	struct connection *connection;
	struct ds_subject *subject; /* referenced by its connection; NULL: by TCP, and not known yet */
	char id[40];                  /* x-request-id */
	char name[72];                /* what stands for * in the path of the route */
	json_t *body;                 /* an object, of routes that have one; else NULL */
	size_t body_size;             /* bytes, as it came */
	size_t answer_size;           /* bytes gathered, then written, of one that is not streamed */
	const struct ds_route *route; /* NULL: there is none for it */
	struct ds_body *work;         /* its body is being read, or its request written; ends with the call */

	/* Set by the route's function if it answers later. */
	void (*on_gone)(void *arg);
	void (*on_drained)(void *arg); /* after ds_reply_write(): the client has taken all of it */
	void *arg;
};

typedef void ds_route_fn(struct ds_call *call);

struct ds_route {
	int method;       /* enum evhttp_cmd_type */
	const char *path; /* "*" stands for one component */
	bool is_admin;    /* root and the daemon's user only */
	bool has_body;    /* a JSON object; may be empty if body_optional */
	bool body_optional;
	ds_route_fn *answer;
};

/* Serve the listening socket @fd (now owned). @is_tcp: clients need an API key, and have no admin routes. */
int ds_http_new(struct ds_http **out, struct ds_daemon *daemon, int fd, bool is_tcp, struct ds_error *err);
struct ds_http *ds_http_free(struct ds_http *http); /* takes NULL, returns NULL; calls on_gone of what is open */
DS_DEFINE_FREEP(ds_http)

/* Follow the limits of daemon->config. */
void ds_http_configure(struct ds_http *http);
void ds_http_stop_accepting(struct ds_http *http);
size_t ds_http_n_calls(const struct ds_http *http);

/* The routes, one file a wire. */
ds_route_fn ds_openai_chat, ds_openai_completions;
ds_route_fn ds_models_list, ds_models_show, ds_healthz;
ds_route_fn ds_tokenize, ds_render_prompt;
ds_route_fn ds_admin_status, ds_admin_load, ds_admin_unload, ds_admin_evaluate, ds_admin_plugins;
ds_route_fn ds_admin_keys, ds_admin_key_add, ds_admin_key_remove;

/* For reply.c: the call is answered. */
void ds_call_done(struct ds_call *call);

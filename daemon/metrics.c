/* metrics.c - the socket of the metrics.
 *
 * Whoever may open it is trusted to read numbers, not to be well behaved: a few connections, each for one short
 * request. */
#include "metrics.h"
#include "log.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <string.h>

#define CONNECTIONS_MAX 16 /* more wait to be accepted */
#define TIMEOUT_S 5
#define HEADERS_MAX (8u << 10)
#define CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

struct connection {
	struct connection *next, **at;
	struct ds_metrics *metrics;
	struct bufferevent *bev; /* owned by evhttp */
	struct event *adopt;
};

struct ds_metrics {
	struct ds_daemon *daemon;
	struct evhttp *evhttp;
	struct evconnlistener *listener; /* owned by evhttp */
	struct event *rest;              /* accept again */
	struct connection *connections;
	size_t n_connections;
	bool stopped;
};

static void on_close(struct evhttp_connection *evcon, void *arg)
{
	struct connection *c = arg;
	struct ds_metrics *metrics = c->metrics;

	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	event_free(c->adopt);
	free(c);
	if (metrics->n_connections-- == CONNECTIONS_MAX && !metrics->stopped)
		evconnlistener_enable(metrics->listener);
}

/* evhttp has set the bufferevent up by now: its callbacks' argument is its connection. */
static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	void *evcon = NULL;

	bufferevent_getcb(c->bev, NULL, NULL, NULL, &evcon);
	evhttp_connection_set_closecb(evcon, on_close, c);
}

static struct bufferevent *on_accepted(struct event_base *base, void *arg)
{
	struct ds_metrics *metrics = arg;
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct connection){.metrics = metrics, .next = metrics->connections, .at = &metrics->connections};
	c->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	c->adopt = evtimer_new(base, on_adopt, c);
	if (!c->bev || !c->adopt)
		abort(); /* an allocation of a few hundred bytes: nothing could go on from here */
	if (c->next)
		c->next->at = &c->next;
	metrics->connections = c;
	event_active(c->adopt, EV_TIMEOUT, 0);
	if (++metrics->n_connections == CONNECTIONS_MAX)
		evconnlistener_disable(metrics->listener);
	return c->bev;
}

/* accept() failed, most likely for lack of descriptors. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct ds_metrics *metrics = arg;

	ds_log(LOG_WARNING, "a connection for metrics cannot be accepted: %s", strerror(errno));
	evconnlistener_disable(listener);
	event_add(metrics->rest, &(struct timeval){.tv_sec = 1});
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
	struct ds_metrics *metrics = arg;

	if (metrics->n_connections < CONNECTIONS_MAX)
		evconnlistener_enable(metrics->listener);
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct ds_metrics *metrics = arg;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct evbuffer *body = evhttp_request_get_output_buffer(req);
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));

	evhttp_add_header(headers, "Connection", "close");
	if (!path || strcmp(path, "/metrics")) {
		evhttp_add_header(headers, "Content-Type", "text/plain");
		if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
			evbuffer_add_printf(body, "there is only /metrics here\n");
		evhttp_send_reply(req, HTTP_NOTFOUND, "Not Found", NULL);
	} else if (evhttp_request_get_command(req) != EVHTTP_REQ_GET) {
		evhttp_add_header(headers, "Allow", "GET");
		evhttp_send_reply(req, HTTP_BADMETHOD, "Method Not Allowed", NULL);
	} else {
		evhttp_add_header(headers, "Content-Type", CONTENT_TYPE);
		ds_metrics_write(body, metrics->daemon);
		evhttp_send_reply(req, HTTP_OK, "OK", NULL);
	}
	bufferevent_disable(bev, EV_READ); /* who has said all listens on */
}

int ds_metrics_new(struct ds_metrics **out, struct ds_daemon *daemon, int fd, struct ds_error *err)
{
	ds_cleanup(ds_metrics_freep) struct ds_metrics *metrics = calloc(1, sizeof(*metrics));
	ds_cleanup(ds_closep) int owned = fd;

	if (!metrics)
		return ds_fail(err, -ENOMEM, "no memory");
	metrics->daemon = daemon;
	metrics->evhttp = evhttp_new(daemon->base);
	metrics->rest = evtimer_new(daemon->base, on_rested, metrics);
	evutil_make_socket_nonblocking(fd);
	if (metrics->evhttp && metrics->rest)
		metrics->listener = evconnlistener_new(daemon->base, NULL, NULL,
						       LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!metrics->listener)
		return ds_fail(err, -ENOMEM, "the server of the metrics cannot be made");
	ds_steal_fd(&owned);
	if (!evhttp_bind_listener(metrics->evhttp, metrics->listener)) {
		evconnlistener_free(metrics->listener);
		return ds_fail(err, -ENOMEM, "the server of the metrics cannot be made");
	}
	evconnlistener_set_error_cb(metrics->listener, on_accept_error);
	evhttp_set_bevcb(metrics->evhttp, on_accepted, metrics);
	evhttp_set_gencb(metrics->evhttp, on_request, metrics);
	evhttp_set_max_headers_size(metrics->evhttp, HEADERS_MAX);
	evhttp_set_max_body_size(metrics->evhttp, 0);
	evhttp_set_timeout(metrics->evhttp, TIMEOUT_S);
	evhttp_set_allowed_methods(metrics->evhttp, 0xffff);
	evhttp_set_default_content_type(metrics->evhttp, NULL);
	*out = ds_steal(&metrics);
	return 0;
}

struct ds_metrics *ds_metrics_free(struct ds_metrics *metrics)
{
	if (!metrics)
		return NULL;
	metrics->stopped = true;
	if (metrics->evhttp)
		evhttp_free(metrics->evhttp); /* and with it the listener and every connection */
	if (metrics->rest)
		event_free(metrics->rest);
	free(metrics);
	return NULL;
}

/* server.c - evhttp on a Unix or TCP socket, and what evhttp 2.1 leaves to its user.
 *
 * - It stops reading while an answer is pending: the descriptor is watched with EV_CLOSED, and looked at now and then,
 *   so that a client that goes away cancels its work in every phase.
 * - It answers what it cannot parse, and bodies that are too large, by itself and in HTML: such an answer is replaced
 * by JSON before it leaves (on_output).
 * - It has no limit of connections: at listen.max_clients the listener rests. One user has three quarters of them at
 *   most, so that nobody can shut the others out: a few more are told so when they ask, and what comes on top of those
 *   is closed at once. */
#include "server.h"
#include "../log.h"
#include "reply.h"
#include "tcp.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <malloc.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#define HEADERS_MAX (64u << 10)
#define PIPELINED_MAX (64u << 10) /* read ahead while an answer is under way */
#define LARGE_BODY (256u << 10)   /* of a request or an answer: what it took in pieces is given back to the system */
#define TRIM_MS 100               /* until then: all that become free together are given back at once */
#define LOOK_MS 250               /* between looks at a client for what EV_CLOSED does not tell */
#define STRANGER_S 30             /* for the first request with a key on a connection by TCP */
#define REFUSED_USEC 1000000      /* for the request of a connection that is one too many */

struct ds_http {
	struct ds_daemon *daemon;
	struct evhttp *evhttp;
	struct evconnlistener *listener;
	struct event *rest; /* ends a pause after accept() failed */
	struct event *trim; /* gives memory back to the system */
	struct connection *connections;
	size_t n_connections, n_calls;
	bool is_tcp, stopped;
};

struct connection {
	struct connection *next, **at;
	struct ds_http *http;
	struct bufferevent *bev;
	struct evhttp_connection *evcon;
	struct event *adopt;  /* fires when evhttp has made its connection, and by TCP again after STRANGER_S */
	struct event *closed; /* EV_CLOSED while a call is open */
	struct event *look;   /* the same by polling: a half close is told once only, and a reset (by a client that leaves
			       * what it was sent unread) epoll tells libevent as an error, which only readers hear */
	struct event *fix;    /* fires when evhttp has written by itself */
	struct evbuffer_cb_entry *output_cb;
	struct ds_call *call;
	struct ds_subject *subject; /* NULL: not known (yet) */
	bool is_refused, was_large;
};

static const struct ds_route routes[] = {
	{EVHTTP_REQ_GET, "/healthz", false, false, false, ds_healthz},
	{EVHTTP_REQ_GET, "/v1/models", false, false, false, ds_models_list},
	{EVHTTP_REQ_GET, "/v1/models/*", false, false, false, ds_models_show},
	{EVHTTP_REQ_POST, "/v1/chat/completions", false, true, false, ds_openai_chat},
	{EVHTTP_REQ_POST, "/v1/completions", false, true, false, ds_openai_completions},
	{EVHTTP_REQ_POST, "/v1/models/*/tokenize", false, true, false, ds_tokenize},
	{EVHTTP_REQ_POST, "/v1/models/*/render", false, true, false, ds_render_prompt},
	{EVHTTP_REQ_GET, "/admin/v1/status", true, false, false, ds_admin_status},
	{EVHTTP_REQ_GET, "/admin/v1/keys", true, false, false, ds_admin_keys},
	{EVHTTP_REQ_POST, "/admin/v1/keys", true, true, false, ds_admin_key_add},
	{EVHTTP_REQ_DELETE, "/admin/v1/keys/*", true, false, false, ds_admin_key_remove},
	{EVHTTP_REQ_GET, "/admin/v1/plugins", true, false, false, ds_admin_plugins},
	{EVHTTP_REQ_POST, "/admin/v1/models/*/load", true, true, true, ds_admin_load},
	{EVHTTP_REQ_POST, "/admin/v1/models/*/unload", true, true, true, ds_admin_unload},
	{EVHTTP_REQ_POST, "/admin/v1/models/*/evaluate", true, true, false, ds_admin_evaluate},
};

/* evhttp asks for the printable address of every peer. A peer on a Unix socket has none, and libevent 2.1 passes bytes
 * that accept() did not write, which getnameinfo() may refuse. The broker resolves no names: this one answers for it.
 */
__attribute__((visibility("default"))) int getnameinfo(const struct sockaddr *restrict address, socklen_t address_size,
						       char *restrict host, socklen_t host_size, char *restrict service,
						       socklen_t service_size, int flags)
{
	if (host && host_size)
		snprintf(host, host_size, "unix");
	if (service && service_size)
		snprintf(service, service_size, "0");
	return 0;
}

/* Connections */

static size_t max_connections(const struct ds_http *http)
{
	const struct ds_config *config = http->daemon->config;

	return (size_t)(http->is_tcp ? config->tcp_clients : config->max_clients);
}

/* What was large is free, or will be in this turn of the loop. Of itself glibc gives back the end of the heap only. */
static void trim_soon(struct connection *c)
{
	if (c->was_large && !event_pending(c->http->trim, EV_TIMEOUT, NULL))
		event_add(c->http->trim, &(struct timeval){.tv_usec = TRIM_MS * 1000});
	c->was_large = false;
}

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	malloc_trim(0);
}

static void free_connection(struct connection *c)
{
	trim_soon(c);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	c->http->n_connections--;
	if (!c->http->stopped && c->http->n_connections < max_connections(c->http))
		evconnlistener_enable(c->http->listener);
	if (c->adopt)
		event_free(c->adopt);
	if (c->closed)
		event_free(c->closed);
	if (c->look)
		event_free(c->look);
	if (c->fix)
		event_free(c->fix);
	ds_subject_unref(c->subject);
	free(c);
}

static void free_call(struct ds_call *call)
{
	call->connection->call = NULL;
	call->connection->http->n_calls--;
	ds_service_changed(call->daemon->service);
	json_decref(call->body);
	call->connection->was_large = call->body_size > LARGE_BODY || call->answer_size > LARGE_BODY;
	free(call);
}

/* The connection is going down, whoever ended it. */
static void on_connection_close(struct evhttp_connection *evcon, void *arg)
{
	struct connection *c = arg;
	struct ds_call *call = c->call;

	if (call) {
		struct evhttp_request *req = call->req;

		ds_body_cancel(call->work);
		if (call->on_gone)
			call->on_gone(call->arg);
		free_call(call);
		/* evhttp lets go of a request that its user still has; else it frees it with the connection. */
		if (!evhttp_request_get_connection(req))
			evhttp_request_free(req);
	}
	free_connection(c);
}

/* The client has closed its end. One that has only shut down writing still listens: it does not hang up. */
static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	struct pollfd p = {.fd = bufferevent_getfd(c->bev)};

	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR))
		evhttp_connection_free(c->evcon);
	else if (c->call)
		event_add(c->look, &(struct timeval){.tv_usec = LOOK_MS * 1000});
}

static void set_timeouts(struct connection *c, uint64_t read_usec, uint64_t write_usec)
{
	struct timeval r = {.tv_sec = (time_t)(read_usec / 1000000), .tv_usec = (long)(read_usec % 1000000)};
	struct timeval w = {.tv_sec = (time_t)(write_usec / 1000000), .tv_usec = (long)(write_usec % 1000000)};

	bufferevent_set_timeouts(c->bev, read_usec ? &r : NULL, write_usec ? &w : NULL);
}

/* The connections of the user whose connection this is, it among them. */
static size_t count_of_user(struct connection *c)
{
	size_t n = 0;

	for (const struct connection *other = c->http->connections; other; other = other->next)
		n += other->subject && !strcmp(other->subject->owner, c->subject->owner);
	return n;
}

/* evhttp has set the bufferevent up: its callbacks' argument is its connection. */
static void on_adopt(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	size_t max = max_connections(c->http), n;
	void *evcon = NULL;

	if (c->evcon) { /* the second time: a stranger has had its time */
		if (!c->subject)
			evhttp_connection_free(c->evcon);
		return;
	}
	bufferevent_getcb(c->bev, NULL, NULL, NULL, &evcon);
	c->evcon = evcon;
	evhttp_connection_set_closecb(c->evcon, on_connection_close, c);
	if (c->http->is_tcp) {
		ds_tcp_prepare(bufferevent_getfd(c->bev));
		set_timeouts(c, c->http->daemon->config->idle_usec, c->http->daemon->config->stall_usec);
		event_add(c->adopt, &(struct timeval){.tv_sec = STRANGER_S});
		return;
	}
	n = ds_subject_new_peer(&c->subject, bufferevent_getfd(c->bev), NULL) == 0 ? count_of_user(c) : 0;
	if (!c->subject || n > max - max / 8) {
		evhttp_connection_free(c->evcon);
		return;
	}
	c->is_refused = n > max - max / 4;
	set_timeouts(c, c->is_refused ? REFUSED_USEC : c->http->daemon->config->idle_usec,
		     c->http->daemon->config->stall_usec);
}

/* Bytes lie in the output, and no call of ours wrote them. */
static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
	struct connection *c = arg;

	if (!c->call && info->n_added > 0)
		event_active(c->fix, EV_TIMEOUT, 0);
}

static const struct {
	int status;
	const char *line, *code, *message;
} own_errors[] = {
	{400, "400 Bad Request", "invalid_request", "not an HTTP request, or one with too many headers"},
	{413, "413 Content Too Large", "request_too_large", "the body of the request is too large"},
};

/* Runs before the loop looks at sockets again, so nothing of evhttp's own page has left. */
static void on_fix(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	struct evbuffer *output = bufferevent_get_output(c->bev);
	char start[16] = "";
	size_t i = 0;
	json_t *json;
	char *text;

	evbuffer_unfreeze(output, 1); /* as it is before the first answer of a connection */
	evbuffer_copyout(output, start, sizeof(start) - 1);
	if (strncmp(start, "HTTP/1.", 7) || !strncmp(start + 9, "100", 3))
		return;
	while (i + 1 < DS_ARRAY_SIZE(own_errors) && own_errors[i].status != atoi(start + 9))
		i++;
	if (own_errors[i].status != atoi(start + 9))
		i = 0;
	json = json_pack("{s:{s:s, s:s, s:n, s:s}}", "error", "message", own_errors[i].message, "type",
			 "invalid_request_error", "param", "code", own_errors[i].code);
	text = json ? json_dumps(json, 0) : NULL;
	evbuffer_remove_cb_entry(output, c->output_cb);
	c->output_cb = NULL;
	evbuffer_drain(output, evbuffer_get_length(output));
	if (text)
		evbuffer_add_printf(output,
				    "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
				    "Connection: close\r\n\r\n%s",
				    own_errors[i].line, strlen(text), text);
	free(text);
	json_decref(json);
}

/* evhttp wants a bufferevent for a connection it has just accepted. */
static struct bufferevent *on_accepted(struct event_base *base, void *arg)
{
	struct ds_http *http = arg;
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->http = http;
	c->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	c->adopt = evtimer_new(base, on_adopt, c);
	c->fix = evtimer_new(base, on_fix, c);
	c->look = evtimer_new(base, on_closed, c);
	if (!c->bev || !c->adopt || !c->fix || !c->look)
		abort(); /* an allocation of a few hundred bytes: nothing could go on from here */
	c->output_cb = evbuffer_add_cb(bufferevent_get_output(c->bev), on_output, c);
	event_active(c->adopt, EV_TIMEOUT, 0);
	c->next = http->connections;
	c->at = &http->connections;
	if (c->next)
		c->next->at = &c->next;
	http->connections = c;
	if (++http->n_connections >= max_connections(http))
		evconnlistener_disable(http->listener);
	return c->bev;
}

/* accept() failed, most likely for lack of descriptors: rest a little instead of spinning. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct ds_http *http = arg;

	ds_log(LOG_WARNING, "a connection cannot be accepted: %s", strerror(errno));
	evconnlistener_disable(listener);
	event_add(http->rest, &(struct timeval){.tv_sec = 1});
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
	struct ds_http *http = arg;

	if (!http->stopped && http->n_connections < max_connections(http))
		evconnlistener_enable(http->listener);
}

/* Calls */

/* The answer has left; the connection may carry another call. */
static void on_complete(struct evhttp_request *req, void *arg)
{
	struct connection *c = arg;

	set_timeouts(c, c->http->daemon->config->idle_usec, c->http->daemon->config->stall_usec);
	bufferevent_setwatermark(c->bev, EV_READ, 0, 0);
	trim_soon(c);
}

void ds_call_done(struct ds_call *call)
{
	event_del(call->connection->closed);
	event_del(call->connection->look);
	free_call(call);
}

static int compare(const char *path, const struct ds_route *route, char *name, size_t name_size)
{
	const char *star = strchr(route->path, '*');
	size_t before = star ? (size_t)(star - route->path) : 0, n, decoded_size = 0;
	char *decoded;
	bool is_name;

	if (!star)
		return strcmp(path, route->path);
	if (strncmp(path, route->path, before))
		return 1;
	n = strcspn(path + before, "/");
	if (n == 0 || n >= name_size || strcmp(path + before + n, star + 1))
		return 1;
	memcpy(name, path + before, n);
	name[n] = '\0';
	decoded = evhttp_uridecode(name, 0, &decoded_size);
	/* "%00" is no name, and must not become the empty one, which means the default model. */
	is_name = decoded && *decoded && strlen(decoded) == decoded_size;
	snprintf(name, name_size, "%s", is_name ? decoded : "");
	free(decoded);
	return is_name ? 0 : 1;
}

static void on_body(void *arg, json_t *json, int problem, const struct ds_error *err)
{
	struct ds_call *call = arg;

	call->body = json;
	if (problem == 0)
		call->route->answer(call);
	else if (problem == -E2BIG)
		ds_reply_error(call, 413, "request_too_large", NULL, "%s", err->text);
	else if (problem == -EINVAL)
		ds_reply_error(call, 400, "invalid_json", NULL, "%s", err->text);
	else
		ds_reply_abort(call);
}

static void take_body(struct ds_call *call)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(call->req);
	const struct ds_route *route = call->route;

	call->body_size = evbuffer_get_length(input);
	if (!route->has_body || (route->body_optional && call->body_size == 0))
		route->answer(call);
	else
		ds_body_read(&call->work, call->daemon->jobs, input, on_body, call);
}

/* Each call by TCP says who it is of, and calls of one connection may be of several. */
static bool admit(struct ds_call *call)
{
	struct connection *c = call->connection;
	struct ds_subject *subject;

	if (!ds_tcp_admit(call, &subject))
		return false;
	ds_subject_unref(c->subject);
	call->subject = c->subject = subject;
	return true;
}

static void route_call(struct ds_call *call)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(call->req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	const struct ds_route *found = NULL;
	bool known = false;

	if (call->connection->is_refused) {
		ds_reply_header(call, "Connection", "close");
		ds_reply_error(call, 429, "too_many_connections", NULL, "you have too many connections open");
		return;
	}
	if (call->connection->http->is_tcp && !admit(call))
		return;
	for (size_t i = 0; path && i < DS_ARRAY_SIZE(routes) && !found; i++) {
		if (routes[i].is_admin && call->connection->http->is_tcp)
			continue;
		if (compare(path, &routes[i], call->name, sizeof(call->name)))
			continue;
		known = true;
		if (evhttp_request_get_command(call->req) == (enum evhttp_cmd_type)routes[i].method)
			found = &routes[i];
	}
	call->route = found;
	if (!known)
		ds_reply_error(call, 404, "not_found", NULL, "there is no %.200s here",
			       path && *path ? path : "such path");
	else if (!found)
		ds_reply_error(call, 405, "method_not_allowed", NULL, "%.200s does not know this HTTP method", path);
	else if (found->is_admin && !ds_access_is_admin(call->subject))
		ds_reply_error(call, 403, "permission_denied", NULL,
			       "managing models needs root or the daemon's user; you are %s", call->subject->owner);
	else
		take_body(call);
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct ds_http *http = arg;
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
	struct connection *c = http->connections;
	struct ds_call *call = calloc(1, sizeof(*call));
	evutil_socket_t fd = bufferevent_getfd(bev);
	uint64_t random = 0;

	while (c && c->bev != bev)
		c = c->next;
	if (c && call && !c->closed)
		c->closed = event_new(http->daemon->base, fd, EV_CLOSED, on_closed, c);
	if (!c || !call || !c->closed || (!c->subject && !http->is_tcp) || getrandom(&random, sizeof(random), 0) < 0) {
		free(call);
		evhttp_connection_free(evcon);
		return;
	}
	call->daemon = http->daemon;
	call->req = req;
	call->connection = c;
	call->subject = c->subject;
	snprintf(call->id, sizeof(call->id), "req-%016llx", (unsigned long long)random);
	c->call = call;
	http->n_calls++;
	ds_service_changed(call->daemon->service);
	event_add(c->closed, NULL);
	event_add(c->look, &(struct timeval){.tv_usec = LOOK_MS * 1000});
	set_timeouts(c, 0, http->daemon->config->stall_usec);
	bufferevent_setwatermark(bev, EV_READ, 0, PIPELINED_MAX);
	evhttp_request_set_on_complete_cb(req, on_complete, c);
	evhttp_add_header(evhttp_request_get_output_headers(req), "x-request-id", call->id);
	route_call(call);
}

/* The server */

void ds_http_configure(struct ds_http *http)
{
	evhttp_set_max_body_size(http->evhttp, (ev_ssize_t)http->daemon->config->max_body);
	evhttp_set_max_headers_size(http->evhttp, HEADERS_MAX);
	on_rested(-1, 0, http);
}

void ds_http_stop_accepting(struct ds_http *http)
{
	http->stopped = true;
	evconnlistener_disable(http->listener);
}

size_t ds_http_n_calls(const struct ds_http *http)
{
	return http->n_calls;
}

int ds_http_new(struct ds_http **out, struct ds_daemon *daemon, int fd, bool is_tcp, struct ds_error *err)
{
	ds_cleanup(ds_http_freep) struct ds_http *http = calloc(1, sizeof(*http));

	if (!http)
		return ds_fail(err, -ENOMEM, "no memory");
	http->daemon = daemon;
	http->is_tcp = is_tcp;
	http->evhttp = evhttp_new(daemon->base);
	http->rest = evtimer_new(daemon->base, on_rested, http);
	http->trim = evtimer_new(daemon->base, on_trim, NULL);
	evutil_make_socket_nonblocking(fd);
	http->listener =
		evconnlistener_new(daemon->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!http->evhttp || !http->rest || !http->trim || !http->listener ||
	    !evhttp_bind_listener(http->evhttp, http->listener))
		return ds_fail(err, -ENOMEM, "the HTTP server cannot be made");
	evconnlistener_set_error_cb(http->listener, on_accept_error);
	evhttp_set_bevcb(http->evhttp, on_accepted, http);
	evhttp_set_gencb(http->evhttp, on_request, http);
	evhttp_set_flags(http->evhttp, EVHTTP_SERVER_LINGERING_CLOSE);
	evhttp_set_allowed_methods(http->evhttp, 0xffff);
	evhttp_set_default_content_type(http->evhttp, NULL);
	ds_http_configure(http);
	*out = ds_steal(&http);
	return 0;
}

struct ds_http *ds_http_free(struct ds_http *http)
{
	if (!http)
		return NULL;
	http->stopped = true;
	if (http->evhttp)
		evhttp_free(http->evhttp); /* and with it the listener and every connection */
	if (http->rest)
		event_free(http->rest);
	if (http->trim)
		event_free(http->trim);
	free(http);
	return NULL;
}

/* reply.c - answers of the HTTP server. */
#include "reply.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <string.h>

#define OUTPUT_FULL (64u << 10)
#define METHODS_KEPT                                                                                             \
	(EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH | \
	 EVHTTP_REQ_CONNECT)

static const struct {
	int status;
	const char *line, *type;
} statuses[] = {
	{200, "OK", NULL},
	{202, "Accepted", NULL},
	{400, "Bad Request", "invalid_request_error"},
	{401, "Unauthorized", "authentication_error"},
	{403, "Forbidden", "permission_error"},
	{404, "Not Found", "invalid_request_error"},
	{405, "Method Not Allowed", "invalid_request_error"},
	{409, "Conflict", "invalid_request_error"},
	{413, "Content Too Large", "invalid_request_error"},
	{429, "Too Many Requests", "rate_limit_error"},
	{500, "Internal Server Error", "server_error"},
	{503, "Service Unavailable", "server_error"},
};

/* What an engine or the queue says, and the HTTP status of it. */
static const struct {
	const char *code;
	int status;
} failures[] = {
	{"invalid_request", 400},
	{"context_length_exceeded", 400},
	{"model_has_no_tokenizer", 400},
	{"model_has_no_dialect", 400},
	{"overloaded", 429},
	{"engine_died", 500},
	{"internal", 500},
	{"cancelled", 503},
	{"model_failed", 503},
	{"memory_pressure", 503},
	{"shutting_down", 503},
};

static size_t find_status(int status)
{
	size_t i = 0;

	while (i + 1 < DS_ARRAY_SIZE(statuses) && statuses[i].status != status)
		i++;
	return i;
}

void ds_reply_header(struct ds_call *call, const char *name, const char *value)
{
	evhttp_add_header(evhttp_request_get_output_headers(call->req), name, value);
}

/* evhttp reads on while it writes, and would take the end of what a client says for the end of its listening. One that
 * hangs up is noticed by EV_CLOSED, or when writing fails. evhttp reads again when the answer has left. */
static void read_nothing(struct ds_call *call)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(call->req);

	bufferevent_disable(evhttp_connection_get_bufferevent(evcon), EV_READ);
}

/* The connection of a client by HTTP/1.0 ends with the answer, though it asked for more. To HTTP/1.1 the header says
 * nothing new. */
static void forget_keep_alive(struct ds_call *call)
{
	struct evkeyvalq *headers = evhttp_request_get_input_headers(call->req);
	const char *value;

	while ((value = evhttp_find_header(headers, "Connection")) && !strncasecmp(value, "keep-alive", 10))
		evhttp_remove_header(headers, "Connection");
}

static void reply(struct ds_call *call, int status, char *text, size_t size)
{
	enum evhttp_cmd_type command = evhttp_request_get_command(call->req);
	struct evkeyvalq *headers = evhttp_request_get_output_headers(call->req);
	struct evbuffer *body = evbuffer_new();

	if (!text || !body) {
		free(text);
		if (body)
			evbuffer_free(body);
		ds_reply_abort(call);
		return;
	}
	if (call->answer_size < size) /* more may have been gathered in vain */
		call->answer_size = size;
	evbuffer_add(body, text, size);
	free(text);
	ds_reply_header(call, "Content-Type", "application/json");
	if (status == 429 || status == 503)
		ds_reply_header(call, "Retry-After", "1");
	/* evhttp gives HEAD and CONNECT no length. Who asked HEAD expects no body, and only the end of the connection is
	 * clear to both; after CONNECT evhttp keeps the connection, whatever is said of it. Of other methods than these it
	 * reads no body, and would take one for the next request.
	 */
	if (!(command & METHODS_KEPT) && !evhttp_find_header(headers, "Connection"))
		ds_reply_header(call, "Connection", "close");
	if (evhttp_find_header(headers, "Connection"))
		forget_keep_alive(call);
	if (command == EVHTTP_REQ_CONNECT)
		ds_reply_header(call, "Content-Length", "0");
	if (command & (EVHTTP_REQ_HEAD | EVHTTP_REQ_CONNECT))
		evbuffer_drain(body, evbuffer_get_length(body));
	evhttp_send_reply(call->req, status, statuses[find_status(status)].line, body);
	read_nothing(call);
	evbuffer_free(body);
	ds_call_done(call);
}

void ds_reply_json(struct ds_call *call, int status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;

	json_decref(json);
	reply(call, status, text, text ? strlen(text) : 0);
}

static void on_written(void *arg, char *text, size_t text_size)
{
	reply(arg, 200, text, text_size);
}

void ds_reply_large_json(struct ds_call *call, json_t *json, size_t size)
{
	call->on_gone = NULL;
	call->on_drained = NULL;
	ds_body_write(&call->work, call->daemon->jobs, json, size, JSON_REAL_PRECISION(15), on_written, call);
}

static json_t *error_object(int status, const char *code, const char *param, const char *message)
{
	return json_pack("{s:{s:s, s:s, s:s?, s:s}}", "error", "message", message, "type",
			 statuses[find_status(status)].type, "param", param, "code", code);
}

void ds_reply_error(struct ds_call *call, int status, const char *code, const char *param, const char *fmt, ...)
{
	char message[512];
	json_t *json;
	va_list args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	json = error_object(status, code, param, message);
	if (!json) /* the sentence quotes a client's bytes, which may have been cut inside a character */
		json = error_object(status, code, NULL, "the request is not valid");
	ds_reply_json(call, status, json);
}

json_t *ds_reply_failure(const uint8_t *data, size_t size, int *status)
{
	json_t *said = json_loadb((const char *)data, size, 0, NULL), *whole, *error;
	const char *code = json_string_value(json_object_get(said, "code")), *message, *param;
	size_t i = 0;

	while (i < DS_ARRAY_SIZE(failures) && (!code || strcmp(code, failures[i].code)))
		i++;
	*status = i < DS_ARRAY_SIZE(failures) ? failures[i].status : 500;
	code = i < DS_ARRAY_SIZE(failures) ? code : "internal";
	message = json_string_value(json_object_get(said, "message"));
	param = json_string_value(json_object_get(said, "param"));
	whole = error_object(*status, code, param, message ? message : "the request failed");
	error = json_object_get(whole, "error");
	if (error && json_is_object(said))
		json_object_update_missing(error, said); /* such as the numbers of context_length_exceeded */
	json_decref(said);
	return whole;
}

void ds_reply_failed(struct ds_call *call, const uint8_t *data, size_t size)
{
	int status;
	json_t *json = ds_reply_failure(data, size, &status);

	ds_reply_json(call, status, json);
}

void ds_reply_begin(struct ds_call *call, const char *content_type)
{
	forget_keep_alive(call); /* there are no chunks to HTTP/1.0, and evhttp would announce no bytes at all */
	ds_reply_header(call, "Content-Type", content_type);
	ds_reply_header(call, "Cache-Control", "no-cache");
	evhttp_send_reply_start(call->req, 200, "OK");
	read_nothing(call);
}

static void on_drained(struct evhttp_connection *evcon, void *arg)
{
	struct ds_call *call = arg;

	if (call->on_drained)
		call->on_drained(call->arg);
}

void ds_reply_write(struct ds_call *call, struct evbuffer *bytes)
{
	evhttp_send_reply_chunk_with_cb(call->req, bytes, on_drained, call);
	read_nothing(call);
}

bool ds_reply_is_full(const struct ds_call *call)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(call->req);

	return evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(evcon))) >= OUTPUT_FULL;
}

void ds_reply_end(struct ds_call *call)
{
	call->on_drained = NULL;
	evhttp_send_reply_end(call->req);
	read_nothing(call);
	ds_call_done(call);
}

void ds_reply_abort(struct ds_call *call)
{
	call->on_gone = NULL;
	evhttp_connection_free(evhttp_request_get_connection(call->req));
}

int ds_reply_add_sse(struct evbuffer *bytes, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;

	json_decref(json);
	if (!text)
		return -EILSEQ;
	evbuffer_add(bytes, "data: ", 6);
	evbuffer_add(bytes, text, strlen(text));
	evbuffer_add(bytes, "\n\n", 2);
	free(text);
	return 0;
}

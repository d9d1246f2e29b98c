/* http.c - libcurl's multi interface over a Unix socket.
 *
 * SIGINT is blocked and read from a signalfd while an exchange is under way, so that an interrupt ends the request (the
 * daemon sees the connection close and stops computing) and the caller decides what it means for the program. */
#include "http.h"

#include <curl/curl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#define COLLECT_MAX (64u << 20)
#define INTERRUPTED "interrupted"

struct ds_http {
	const char *socket;
	double timeout;
	CURLM *multi;
};

/* An exchange under way. */
struct transfer {
	struct ds_exchange *exchange;
	CURL *easy;
	struct curl_slist *headers;
	char *body;
	struct ds_error err;
	char curl_text[CURL_ERROR_SIZE];
};

static const struct {
	long status;
	int result;
} statuses[] = {
	{401, -EACCES}, {403, -EACCES}, {404, -ENOENT},    {408, -ETIMEDOUT},
	{429, -EBUSY},  {503, -EBUSY},  {504, -ETIMEDOUT},
};

int ds_http_new(struct ds_http **out, const char *socket, double timeout, struct ds_error *err)
{
	ds_cleanup(ds_http_freep) struct ds_http *http = calloc(1, sizeof(*http));

	if (!http || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(http->multi = curl_multi_init()))
		return ds_fail(err, -ENOMEM, "no memory for a connection");
	http->socket = socket;
	http->timeout = timeout;
	*out = ds_steal(&http);
	return 0;
}

struct ds_http *ds_http_free(struct ds_http *http)
{
	if (!http)
		return NULL;
	curl_multi_cleanup(http->multi);
	free(http);
	return NULL;
}

void ds_exchange_deinit(struct ds_exchange *e)
{
	free(e->data);
	e->data = NULL;
	e->size = 0;
}

static int collect(struct ds_exchange *e, const char *data, size_t size, struct ds_error *err)
{
	char *grown;

	if (size > COLLECT_MAX - e->size)
		return ds_fail(err, -EFBIG, "the daemon's answer to %s is longer than %u MiB", e->path,
			       COLLECT_MAX >> 20);
	grown = realloc(e->data, e->size + size + 1);
	if (!grown)
		return ds_fail(err, -ENOMEM, "no memory for the daemon's answer");
	memcpy(grown + e->size, data, size);
	e->data = grown;
	e->size += size;
	e->data[e->size] = '\0';
	return 0;
}

static size_t on_write(char *data, size_t one, size_t size, void *user)
{
	struct transfer *t = user;
	struct ds_exchange *e = t->exchange;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &e->status);
	if (e->on_data && e->status < 400)
		e->result = e->on_data(e->self, data, size, &t->err);
	else
		e->result = collect(e, data, size, &t->err);
	return e->result == 0 ? size : 0;
}

static int begin(struct ds_http *http, struct transfer *t)
{
	struct ds_exchange *e = t->exchange;
	ds_cleanup(ds_freep) char *url = NULL;

	t->easy = curl_easy_init();
	if (!t->easy || asprintf(&url, "http://localhost%s", e->path) < 0)
		return ds_fail(&t->err, -ENOMEM, "no memory for a request");
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_UNIX_SOCKET_PATH, http->socket);
	curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, e->method);
	curl_easy_setopt(t->easy, CURLOPT_USERAGENT, "dsctl/" PACKAGE_VERSION);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->curl_text);
	curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)(http->timeout * 1000));
	if (e->body) {
		t->body = json_dumps(e->body, JSON_COMPACT);
		/* An empty Expect: or libcurl waits for "100 Continue" before every long prompt. */
		t->headers = curl_slist_append(NULL, "Content-Type: application/json");
		if (!t->body || !t->headers || !curl_slist_append(t->headers, "Expect:"))
			return ds_fail(&t->err, -ENOMEM, "no memory for a request");
		curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->body);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(t->body));
	}
	if (curl_multi_add_handle(http->multi, t->easy) != CURLM_OK)
		return ds_fail(&t->err, -ENOMEM, "no memory for a connection");
	return 0;
}

static void transfer_deinit(struct ds_http *http, struct transfer *t)
{
	if (t->easy) {
		curl_multi_remove_handle(http->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->headers);
	free(t->body);
}

/* Nobody answered: say why, and what to do about it. */
static int fail_to_connect(const char *socket, struct ds_error *err)
{
	if (access(socket, F_OK) < 0 && errno == ENOENT)
		return ds_fail(err, -ECONNREFUSED,
			       "deepseekd is not running (no socket at %s); start it with systemctl start deepseekd, "
			       "or ./quickstart in a source tree",
			       socket);
	if (access(socket, W_OK) < 0 && errno == EACCES)
		return ds_fail(err, -EACCES, "no permission to open %s; ask to join the group that owns it", socket);
	return ds_fail(err, -ECONNREFUSED,
		       "deepseekd is not running (nobody listens at %s); start it with systemctl start deepseekd, "
		       "or ./quickstart in a source tree",
		       socket);
}

/* What the daemon said in OpenAI's shape, or else its status. */
static int fail_by_status(const struct ds_exchange *e, struct ds_error *err)
{
	json_t *body = e->data ? json_loadb(e->data, e->size, 0, NULL) : NULL;
	const char *message = json_string_value(json_object_get(json_object_get(body, "error"), "message"));
	const char *code = json_string_value(json_object_get(json_object_get(body, "error"), "code"));
	int r = -EREMOTEIO;

	/* a model that failed is no reason to come again later, as other 503 are */
	for (size_t i = 0; !(code && strcmp(code, "model_failed") == 0) && i < DS_ARRAY_SIZE(statuses); i++)
		if (statuses[i].status == e->status)
			r = statuses[i].result;
	if (message)
		ds_fail(err, r, "%s", message);
	else
		ds_fail(err, r, "%s %s: the daemon answered %ld", e->method, e->path, e->status);
	json_decref(body);
	return r;
}

static int finish(const struct ds_http *http, struct transfer *t, CURLcode code)
{
	struct ds_exchange *e = t->exchange;

	if (e->result < 0)
		return e->result;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &e->status);
	switch (code) {
	case CURLE_OK:
		return e->status >= 400 ? fail_by_status(e, &t->err) : 0;
	case CURLE_COULDNT_CONNECT:
		return fail_to_connect(http->socket, &t->err);
	case CURLE_OPERATION_TIMEDOUT:
		return ds_fail(&t->err, -ETIMEDOUT, "no answer within %g seconds", http->timeout);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
		return ds_fail(&t->err, -EPIPE, "the daemon closed the connection in the middle of its answer");
	default:
		return ds_fail(&t->err, -EIO, "%s: %s", http->socket,
			       t->curl_text[0] ? t->curl_text : curl_easy_strerror(code));
	}
}

static void reap(struct ds_http *http)
{
	struct transfer *t;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(http->multi, &left))) {
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		t->exchange->result = finish(http, t, m->data.result);
	}
}

/* Block SIGINT and open a descriptor that becomes readable when it comes. */
static int watch_interrupt(sigset_t *before)
{
	sigset_t interrupt;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_BLOCK, &interrupt, before);
	return signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool was_interrupted(int fd)
{
	struct signalfd_siginfo info;

	return fd >= 0 && read(fd, &info, sizeof(info)) == sizeof(info);
}

static int drive(struct ds_http *http, struct ds_error *err)
{
	struct curl_waitfd extra = {.events = CURL_WAIT_POLLIN};
	ds_cleanup(ds_closep) int fd = -1;
	bool interrupted = false;
	int running = 1;
	sigset_t before;

	fd = watch_interrupt(&before);
	extra.fd = fd;
	while (running && !interrupted) {
		if (curl_multi_perform(http->multi, &running) != CURLM_OK)
			break;
		reap(http);
		if (running)
			curl_multi_poll(http->multi, &extra, fd >= 0, 1000, NULL);
		interrupted = was_interrupted(fd);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return interrupted ? ds_fail(err, -EINTR, INTERRUPTED) : 0;
}

int ds_http_perform(struct ds_http *http, struct ds_exchange *exchanges, size_t n, struct ds_error *err)
{
	struct transfer *transfers = calloc(n, sizeof(*transfers));
	int r = 0;

	if (!transfers)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	for (size_t i = 0; i < n; i++) {
		transfers[i].exchange = &exchanges[i];
		exchanges[i].result = begin(http, &transfers[i]);
	}
	r = drive(http, err);
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && exchanges[i].result < 0)
			r = ds_fail(err, exchanges[i].result, "%s", transfers[i].err.text);
		transfer_deinit(http, &transfers[i]);
	}
	free(transfers);
	return r;
}

int ds_http_call(struct ds_http *http, const char *method, const char *path, const json_t *body, json_t **out,
		 struct ds_error *err)
{
	ds_cleanup(ds_exchange_deinit) struct ds_exchange e = {.method = method, .path = path, .body = body};
	json_error_t where;
	json_t *answer;
	int r;

	r = ds_http_perform(http, &e, 1, err);
	if (r < 0)
		return r;
	answer = json_loadb(e.data ? e.data : "", e.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
	if (!json_is_object(answer)) {
		json_decref(answer);
		return ds_fail(err, -EPROTO, "%s %s: the answer is not a JSON object", method, path);
	}
	*out = answer;
	return 0;
}

int ds_http_sleep(struct ds_http *http, int msec, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = -1;
	struct pollfd p = {.events = POLLIN};
	bool interrupted;
	sigset_t before;

	p.fd = fd = watch_interrupt(&before);
	poll(&p, 1, msec);
	interrupted = was_interrupted(fd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return interrupted ? ds_fail(err, -EINTR, INTERRUPTED) : 0;
}

static char *model_path(const char *root, const char *name, const char *verb)
{
	char *escaped = curl_easy_escape(NULL, name, 0);
	char *path = NULL;

	if (escaped && asprintf(&path, "%s/v1/models/%s/%s", root, escaped, verb) < 0)
		path = NULL;
	curl_free(escaped);
	return path;
}

char *ds_http_model_path(const char *name, const char *verb)
{
	return model_path("/admin", name, verb);
}

char *ds_http_user_path(const char *name, const char *verb)
{
	return model_path("", name, verb);
}

char *ds_http_path(const char *folder, const char *name)
{
	char *escaped = curl_easy_escape(NULL, name, 0);
	char *path = NULL;

	if (escaped && asprintf(&path, "%s/%s", folder, escaped) < 0)
		path = NULL;
	curl_free(escaped);
	return path;
}

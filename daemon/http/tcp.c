/* tcp.c - clients by TCP are programs of this machine or of others, and also whatever web page a browser here shows.
 *
 * - A page of evil.example can make its name point to this machine (DNS rebinding); then the browser calls with "Host:
 *   evil.example". Only the address that the connection came to, localhost and configured names are answered.
 * - No answer has a CORS header, so that a page cannot read one, and each call needs a key that no browser adds.
 * - The key is the identity: there is no user, and nothing under /admin. */
#include "tcp.h"
#include "../keys.h"
#include "reply.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

/* Is @host, without brackets, the address @own? */
static bool is_address(const char *host, bool brackets, const struct sockaddr_storage *own)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)own)->sin6_addr;
	const struct in_addr *v4 = &((const struct sockaddr_in *)own)->sin_addr;
	bool is_v4 = own->ss_family == AF_INET;
	struct in6_addr a6;
	struct in_addr a4;

	if (brackets)
		return !is_v4 && inet_pton(AF_INET6, host, &a6) == 1 && !memcmp(&a6, v6, sizeof(a6));
	if (inet_pton(AF_INET, host, &a4) != 1)
		return false;
	if (is_v4)
		return a4.s_addr == v4->s_addr;
	return IN6_IS_ADDR_V4MAPPED(v6) && !memcmp(&a4, &v6->s6_addr[12], sizeof(a4)); /* a listener at [::] */
}

bool ds_tcp_is_host(char *const *names, const char *value, const struct sockaddr_storage *own)
{
	bool brackets = value[0] == '[';
	size_t length = brackets ? strcspn(value + 1, "]") : strcspn(value, ":");
	const char *rest = value + length + 2 * brackets;
	char host[128];

	if (length == 0 || length >= sizeof(host) || (brackets && value[length + 1] != ']'))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)length, value + brackets);
	if (*rest && (*rest != ':' || strspn(rest + 1, "0123456789") != strlen(rest + 1)))
		return false;
	if (is_address(host, brackets, own))
		return true;
	if (brackets)
		return false;
	for (; names && *names; names++)
		if (!strcasecmp(*names, host))
			return true;
	return !strcasecmp(host, "localhost");
}

/* Every Host there is, and that of an absolute URI, must be this machine; one must be there. */
static bool hosts_are_ours(const struct ds_call *call)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(call->req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(call->req);
	struct evhttp_connection *evcon = evhttp_request_get_connection(call->req);
	const char *in_uri = uri ? evhttp_uri_get_host(uri) : NULL;
	char *const *names = call->daemon->config->tcp_hosts;
	struct sockaddr_storage own = {0};
	socklen_t size = sizeof(own);
	const struct evkeyval *header;
	bool found = false;

	if (getsockname(bufferevent_getfd(evhttp_connection_get_bufferevent(evcon)), (struct sockaddr *)&own, &size) <
	    0)
		return false;
	TAILQ_FOREACH(header, headers, next)
	{
		if (strcasecmp(header->key, "Host"))
			continue;
		if (!ds_tcp_is_host(names, header->value, &own))
			return false;
		found = true;
	}
	return found && (!in_uri || !*in_uri || ds_tcp_is_host(names, in_uri, &own));
}

/* The text of the key that the call brings, or "". */
static const char *key_text(const struct ds_call *call)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(call->req);
	const char *bearer = evhttp_find_header(headers, "Authorization");
	const char *plain = evhttp_find_header(headers, "x-api-key");

	if (!bearer || strncasecmp(bearer, "Bearer ", 7))
		return plain ? plain : "";
	for (bearer += 7; *bearer == ' '; bearer++)
		;
	return bearer;
}

bool ds_tcp_admit(struct ds_call *call, struct ds_subject **subject)
{
	const char *name;

	if (!hosts_are_ours(call)) {
		ds_reply_error(call, 403, "host_not_allowed", NULL,
			       "this machine is not called so: listen.tcp_hosts lists the names that are answered");
		return false;
	}
	name = call->daemon->keys ? ds_keys_find(call->daemon->keys, key_text(call)) : NULL;
	if (!name) {
		ds_reply_header(call, "WWW-Authenticate", "Bearer");
		ds_reply_error(call, 401, "invalid_api_key", NULL,
			       "an API key is needed (Authorization: Bearer KEY); dsctl key add NAME makes one");
		return false;
	}
	if (ds_subject_new_key(subject, name) < 0) {
		ds_reply_abort(call);
		return false;
	}
	return true;
}

void ds_tcp_prepare(int fd)
{
	int one = 1;

	/* A token waits for nothing; and a client whose machine is gone is noticed some day. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

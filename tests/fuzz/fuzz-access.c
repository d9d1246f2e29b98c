/* fuzz-access.c - the input is text: a Host by which a client calls, or the name of a unit. A Host that is answered must
 * begin with a name of this machine; the application of a unit has no more letters than the unit, and all can be shown. */
#include "daemon/http/tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_host(const char *text)
{
	static char name[] = "gpu.lan";
	static char *const names[] = {name, NULL};
	struct sockaddr_storage v4 = {.ss_family = AF_INET}, v6 = {.ss_family = AF_INET6};

	inet_pton(AF_INET, "127.0.0.1", &((struct sockaddr_in *)&v4)->sin_addr);
	inet_pton(AF_INET6, "::1", &((struct sockaddr_in6 *)&v6)->sin6_addr);
	if (ds_tcp_is_host(names, text, &v4) && strncasecmp(text, "localhost", 9) && strncmp(text, "127.0.0.1", 9) &&
	    strncasecmp(text, name, 7))
		abort();
	if (ds_tcp_is_host(NULL, text, &v6) && strncasecmp(text, "localhost", 9) && text[0] != '[')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[512], app[64];

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check_host(text);
	ds_subject_app_of_unit(text, app, sizeof(app));
	if (strlen(app) > strlen(text))
		abort();
	for (const char *p = app; *p; p++)
		if (!strchr(text, *p) && (*p < ' ' || *p > '~'))
			abort();
	return 0;
}

/* tcp.h - what a client by TCP must bring: a Host that is this machine, and an API key. */
#pragma once

#include "server.h"

#include <sys/socket.h>

/* One call's right to be here. True: *@subject is the key's owner, referenced. Else it has been answered: 403 or 401.
 */
bool ds_tcp_admit(struct ds_call *call, struct ds_subject **subject);
/* May a client call this machine @value, a Host of NAME, ADDRESS or [ADDRESS], perhaps with :PORT? @names: configured ones,
 * NULL-terminated or NULL; @own: the address that the connection came to. */
bool ds_tcp_is_host(char *const *names, const char *value, const struct sockaddr_storage *own);
/* A connection that was just accepted. */
void ds_tcp_prepare(int fd);

/* access.h - who is at the other end of a socket, and what that user may do. */
#pragma once

#include <deepseekd/base.h>
#include <sys/types.h>

/* The user id of the peer of a connected Unix socket, as the kernel noted it at connect(). */
int ds_access_peer(int socket, uid_t *uid);

/* May @uid manage models? Root and the daemon's own user may. */
bool ds_access_is_admin(uid_t uid);

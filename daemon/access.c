/* access.c - peer credentials. */
#include "access.h"

#include <sys/socket.h>

int ds_access_peer(int socket, uid_t *uid)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;
	*uid = credentials.uid;
	return 0;
}

bool ds_access_is_admin(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

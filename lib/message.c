/* message.c - datagrams with descriptors between the broker and a helper. */
#include "message.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint64_t request;
	uint32_t size;
	uint16_t n_fds; /* without the memfd of a payload */
	uint16_t flags;
};

_Static_assert(sizeof(struct header) == 24, "the header is 24 bytes on the wire");

#define PAYLOAD_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

void ds_message_deinit(struct ds_message *m)
{
	for (unsigned i = 0; i < m->n_fds; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	free(m->data);
	m->data = NULL;
	m->n_fds = 0;
	m->size = 0;
}

unsigned ds_message_max_fds(uint16_t type)
{
	switch (type) {
	case DS_MSG_FILES:
	case DS_MSG_MAP:
	case DS_MSG_BENCH:
		return DS_MESSAGE_FDS;
	case DS_MSG_GO:
	case DS_MSG_QUANTIZE:
		return 1;
	default:
		return 0;
	}
}

int ds_message_socketpair(int sockets[2])
{
	int size = 4 * (int)(DS_MESSAGE_INLINE + sizeof(struct header));

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		if (setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0) {
			int r = -errno;

			close(sockets[0]);
			close(sockets[1]);
			return r;
		}
	return 0;
}

/* Put a large payload into a sealed memfd. Returns the descriptor. */
static int payload_memfd(const void *data, size_t size)
{
	int fd = memfd_create("deepseekd-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);

		if (n < 0) {
			int r = -errno;

			close(fd);
			return r;
		}
		done += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, PAYLOAD_SEALS) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int ds_message_send(int socket, uint16_t type, uint64_t request, const void *data, size_t size, const int *fds,
		    unsigned n_fds)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * (DS_MESSAGE_FDS + 1))];
		struct cmsghdr align;
	} control;
	struct header h = {DS_MESSAGE_MAGIC, DS_MESSAGE_VERSION, type, request, (uint32_t)size, (uint16_t)n_fds, 0};
	struct iovec parts[2] = {{&h, sizeof(h)}, {(void *)data, size}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};
	int all[DS_MESSAGE_FDS + 1], payload = -1;
	ssize_t n;
	int r = 0;

	if (size > DS_MESSAGE_MAX || n_fds > ds_message_max_fds(type))
		return -EMSGSIZE;
	if (n_fds > 0)
		memcpy(all, fds, sizeof(int) * n_fds);
	if (size > DS_MESSAGE_INLINE) {
		payload = payload_memfd(data, size);
		if (payload < 0)
			return payload;
		h.flags |= DS_MESSAGE_IN_FD;
		all[n_fds++] = payload;
		msg.msg_iovlen = 1;
	}
	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		memset(&control, 0, sizeof(control));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), all, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		r = errno == EWOULDBLOCK ? -EAGAIN : errno == ECONNRESET ? -EPIPE : -errno;
	if (payload >= 0)
		close(payload);
	return r;
}

/* Take the descriptors of @msg into @m; whatever else came with it is a breach. */
static int take_descriptors(struct msghdr *msg, struct ds_message *m, int *payload, bool in_fd)
{
	unsigned n_all = 0;
	int all[DS_MESSAGE_FDS + 1];

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n_all < DS_ARRAY_SIZE(all))
				all[n_all++] = fd;
			else
				close(fd);
		}
	}
	if (in_fd && n_all > 0)
		*payload = all[--n_all];
	for (unsigned i = 0; i < n_all; i++) {
		if (m->n_fds < DS_MESSAGE_FDS)
			m->fds[m->n_fds++] = all[i];
		else
			close(all[i]);
	}
	return msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;
}

/* Read the payload of @m from the sealed memfd @fd. */
static int read_payload(int fd, struct ds_message *m, struct ds_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & PAYLOAD_SEALS) != PAYLOAD_SEALS)
		return ds_fail(err, -EPROTO, "the payload of message %u is not sealed", m->type);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != m->size)
		return ds_fail(err, -EPROTO, "the payload of message %u has %lld bytes, %u were announced", m->type,
			       (long long)st.st_size, m->size);
	for (size_t done = 0; done < m->size;) {
		ssize_t n = pread(fd, m->data + done, m->size - done, (off_t)done);

		if (n <= 0)
			return ds_fail(err, -EPROTO, "the payload of message %u cannot be read", m->type);
		done += (size_t)n;
	}
	return 0;
}

static int check_header(const struct header *h, size_t n_read, const struct ds_message *m, bool has_payload_fd,
			struct ds_error *err)
{
	bool in_fd = h->flags & DS_MESSAGE_IN_FD;

	if (n_read < sizeof(*h) || h->magic != DS_MESSAGE_MAGIC || h->version != DS_MESSAGE_VERSION)
		return ds_fail(err, -EPROTO, "not a message of this protocol");
	if (h->flags & ~DS_MESSAGE_IN_FD || in_fd != has_payload_fd || h->size > DS_MESSAGE_MAX)
		return ds_fail(err, -EPROTO, "message %u has flags %u and size %u", h->type, h->flags, h->size);
	if (n_read - sizeof(*h) != (in_fd ? 0 : h->size))
		return ds_fail(err, -EPROTO, "message %u announces %u bytes and has %zu", h->type, h->size,
			       n_read - sizeof(*h));
	if (h->n_fds != m->n_fds || m->n_fds > ds_message_max_fds(h->type))
		return ds_fail(err, -EPROTO, "message %u comes with %u descriptors", h->type, m->n_fds);
	return 0;
}

/* The datagram @n_read in @h and @m->data, its descriptors taken: check it and complete the payload. */
static int finish_message(const struct header *h, size_t n_read, int payload, struct ds_message *m, struct ds_error *err)
{
	int r = check_header(h, n_read, m, payload >= 0, err);
	uint8_t *data;

	if (r < 0)
		return r;
	m->type = h->type;
	m->request = h->request;
	m->size = h->size;
	data = realloc(m->data, (size_t)h->size + 1);
	if (!data)
		return ds_fail(err, -ENOMEM, "no memory for a message of %u bytes", h->size);
	m->data = data;
	m->data[h->size] = 0;
	return payload >= 0 ? read_payload(payload, m, err) : 0;
}

int ds_message_receive(int socket, struct ds_message *m, struct ds_error *err)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * (DS_MESSAGE_FDS + 1))];
		struct cmsghdr align;
	} control;
	ds_cleanup(ds_closep) int payload = -1;
	struct header h = {0};
	struct iovec parts[2] = {{&h, sizeof(h)}, {NULL, DS_MESSAGE_INLINE}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n;
	int r;

	m->data = parts[1].iov_base = malloc(DS_MESSAGE_INLINE);
	if (!m->data)
		return ds_fail(err, -ENOMEM, "no memory for a message");
	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		r = errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : -EPIPE;
	else if (n == 0)
		r = -EPIPE;
	else
		r = take_descriptors(&msg, m, &payload, h.flags & DS_MESSAGE_IN_FD);
	if (r == -EPIPE)
		ds_fail(err, r, "the peer is gone");
	else if (r == -EPROTO || (r == 0 && msg.msg_flags & MSG_TRUNC))
		r = ds_fail(err, -EPROTO, "a truncated message");
	if (r == 0)
		r = finish_message(&h, (size_t)n, payload, m, err);
	if (r < 0)
		ds_message_deinit(m);
	return r;
}

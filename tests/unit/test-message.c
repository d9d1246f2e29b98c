/* test-message.c - datagrams with descriptors: what arrives whole, and what is refused without leaking anything. */
#include "message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* The header as it lies on the wire, written by hand to send what ds_message_send() never would. */
struct raw {
	uint32_t magic;
	uint16_t version, type;
	uint64_t request;
	uint32_t size;
	uint16_t n_fds, flags;
};

#define RAW(...) ((struct raw){.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, __VA_ARGS__})

struct pair {
	int sockets[2];
	unsigned n_open; /* descriptors of the process when the test began */
};

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	p->n_open = count_fds();
	*state = p;
	return ds_message_socketpair(p->sockets);
}

/* Whatever a test did, no descriptor may be left. */
static int teardown(void **state)
{
	struct pair *p = *state;
	unsigned n_open;

	close(p->sockets[0]);
	close(p->sockets[1]);
	n_open = p->n_open;
	free(p);
	return count_fds() == n_open ? 0 : -1;
}

static int new_fd(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Send @h, @size bytes of @payload and @fds as they are, and receive. */
static int receive_raw(struct pair *p, struct raw h, const void *payload, size_t size, const int *fds, unsigned n_fds,
		       struct ds_error *err)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * 253)];
		struct cmsghdr align;
	} control = {.bytes = {0}};
	struct iovec parts[2] = {{&h, sizeof(h)}, {(void *)payload, size}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	int r;

	if (n_fds > 0) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	assert_int_equal(sendmsg(p->sockets[0], &msg, 0), sizeof(h) + size);
	r = ds_message_receive(p->sockets[1], &m, err);
	if (r < 0) {
		assert_null(m.data);
		assert_int_equal(m.n_fds, 0);
	}
	return r;
}

static void a_message_arrives_with_its_payload_and_descriptor(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	int fd = new_fd();
	struct stat sent, came;

	assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_MAP, 7, "{}", 2, &fd, 1), 0);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), 0);
	assert_int_equal(m.type, DS_MSG_MAP);
	assert_int_equal(m.request, 7);
	assert_int_equal(m.size, 2);
	assert_string_equal((char *)m.data, "{}");
	assert_int_equal(m.n_fds, 1);
	assert_int_equal(fstat(fd, &sent), 0);
	assert_int_equal(fstat(m.fds[0], &came), 0);
	assert_int_equal(sent.st_ino, came.st_ino);
	assert_int_equal(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
}

static void a_message_without_payload_arrives(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};

	assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_QUIT, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), 0);
	assert_int_equal(m.type, DS_MSG_QUIT);
	assert_int_equal(m.size, 0);
	assert_int_equal(m.data[0], 0);
}

static void payloads_around_the_inline_limit_arrive(void **state)
{
	static const size_t sizes[] = {1, DS_MESSAGE_INLINE - 1, DS_MESSAGE_INLINE, DS_MESSAGE_INLINE + 1, 300000};
	struct pair *p = *state;

	for (size_t i = 0; i < DS_ARRAY_SIZE(sizes); i++) {
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};
		ds_cleanup(ds_freep) uint8_t *data = malloc(sizes[i]);

		for (size_t b = 0; b < sizes[i]; b++)
			data[b] = (uint8_t)(b * 31 + i);
		assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_EVENTS, i, data, sizes[i], NULL, 0), 0);
		assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), 0);
		assert_int_equal(m.size, sizes[i]);
		assert_memory_equal(m.data, data, sizes[i]);
		assert_int_equal(m.data[m.size], 0);
		assert_int_equal(m.n_fds, 0);
	}
}

static void two_hundred_descriptors_and_a_large_payload_fit_one_message(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	ds_cleanup(ds_freep) char *payload = calloc(1, 100000);
	int fds[DS_MESSAGE_FDS];

	for (unsigned i = 0; i < DS_MESSAGE_FDS; i++)
		fds[i] = new_fd();
	assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_FILES, 0, payload, 100000, fds, DS_MESSAGE_FDS), 0);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), 0);
	assert_int_equal(m.n_fds, DS_MESSAGE_FDS);
	assert_int_equal(m.size, 100000);
	for (unsigned i = 0; i < DS_MESSAGE_FDS; i++) {
		struct stat sent, came;

		fstat(fds[i], &sent);
		fstat(m.fds[i], &came);
		assert_int_equal(sent.st_ino, came.st_ino);
		close(fds[i]);
	}
}

static void what_is_too_much_is_not_sent(void **state)
{
	struct pair *p = *state;
	int fd = new_fd();

	assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_PING, 0, NULL, 0, &fd, 1), -EMSGSIZE);
	assert_int_equal(ds_message_send(p->sockets[0], DS_MSG_EVENTS, 0, "", DS_MESSAGE_MAX + 1ull, NULL, 0),
			 -EMSGSIZE);
	close(fd);
}

static void a_peer_that_is_gone_is_a_broken_pipe(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	struct ds_error err;

	close(p->sockets[0]);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, &err), -EPIPE);
	assert_string_equal(err.text, "the peer is gone");
	assert_int_equal(ds_message_send(p->sockets[1], DS_MSG_QUIT, 0, NULL, 0, NULL, 0), -EPIPE);
	p->sockets[0] = new_fd();
}

static void a_socket_with_nothing_in_it_says_so(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};

	fcntl(p->sockets[1], F_SETFL, O_NONBLOCK);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), -EAGAIN);
}

static void a_full_socket_says_so_and_sends_nothing(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_freep) char *payload = calloc(1, DS_MESSAGE_INLINE);
	unsigned n_sent = 0;
	int r;

	fcntl(p->sockets[0], F_SETFL, O_NONBLOCK);
	while ((r = ds_message_send(p->sockets[0], DS_MSG_EVENTS, 0, payload, DS_MESSAGE_INLINE, NULL, 0)) == 0)
		n_sent++;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(n_sent, 1, 100);
	for (unsigned i = 0; i < n_sent; i++) {
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};

		assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), 0);
	}
	fcntl(p->sockets[1], F_SETFL, O_NONBLOCK);
	{
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};

		assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), -EAGAIN);
	}
}

static void headers_that_lie_are_refused(void **state)
{
	static const struct raw lies[] = {
		{.magic = 1, .version = DS_MESSAGE_VERSION, .type = DS_MSG_PING},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION + 1, .type = DS_MSG_PING},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = 9},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = 7},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = UINT32_MAX},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = 8, .flags = 2},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = 8, .flags = DS_MESSAGE_IN_FD},
		{.magic = DS_MESSAGE_MAGIC, .version = DS_MESSAGE_VERSION, .size = 8, .n_fds = 1},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(lies); i++)
		assert_int_equal(receive_raw(*state, lies[i], "12345678", 8, NULL, 0, NULL), -EPROTO);
}

static void half_a_header_is_refused(void **state)
{
	struct pair *p = *state;
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	struct raw h = RAW(.type = DS_MSG_PING);

	assert_int_equal(send(p->sockets[0], &h, 10, 0), 10);
	assert_int_equal(ds_message_receive(p->sockets[1], &m, NULL), -EPROTO);
}

static void a_datagram_too_long_is_refused_as_truncated(void **state)
{
	ds_cleanup(ds_freep) char *payload = calloc(1, DS_MESSAGE_INLINE + 8);
	struct ds_error err;

	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_PING, .size = DS_MESSAGE_INLINE + 8), payload,
				     DS_MESSAGE_INLINE + 8, NULL, 0, &err),
			 -EPROTO);
	assert_string_equal(err.text, "a truncated message");
}

/* That these are closed is seen by teardown(). */
static void descriptors_where_none_belong_are_closed(void **state)
{
	int fds[2] = {new_fd(), new_fd()};

	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_PING, .n_fds = 2), "", 0, fds, 2, NULL), -EPROTO);
	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_GO, .n_fds = 2), "", 0, fds, 2, NULL), -EPROTO);
	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_GO, .n_fds = 0), "", 0, fds, 1, NULL), -EPROTO);
	close(fds[0]);
	close(fds[1]);
}

static void more_descriptors_than_any_message_has_are_closed(void **state)
{
	int fds[253];

	for (unsigned i = 0; i < 253; i++)
		fds[i] = new_fd();
	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_FILES, .n_fds = 253), "", 0, fds, 253, NULL), -EPROTO);
	for (unsigned i = 0; i < 253; i++)
		close(fds[i]);
}

static void a_payload_in_a_descriptor_has_to_be_sealed(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct raw h = RAW(.type = DS_MSG_EVENTS, .size = 70000, .flags = DS_MESSAGE_IN_FD);
	struct ds_error err;

	assert_int_equal(ftruncate(fd, 70000), 0);
	assert_int_equal(receive_raw(*state, h, "", 0, &fd, 1, &err), -EPROTO);
	assert_non_null(strstr(err.text, "is not sealed"));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
	assert_int_equal(receive_raw(*state, h, "", 0, &fd, 1, &err), 0);
	close(fd);
}

static void a_payload_in_a_descriptor_has_the_size_announced(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct ds_error err;

	assert_int_equal(ftruncate(fd, 70000), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_EVENTS, .size = 70001, .flags = DS_MESSAGE_IN_FD), "",
				     0, &fd, 1, &err),
			 -EPROTO);
	assert_non_null(strstr(err.text, "70000 bytes, 70001 were announced"));
	close(fd);
}

static void a_pipe_is_no_payload(void **state)
{
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(receive_raw(*state, RAW(.type = DS_MSG_EVENTS, .size = 70000, .flags = DS_MESSAGE_IN_FD), "",
				     0, pipes, 1, NULL),
			 -EPROTO);
	close(pipes[0]);
	close(pipes[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_arrives_with_its_payload_and_descriptor),
		TEST(a_message_without_payload_arrives),
		TEST(payloads_around_the_inline_limit_arrive),
		TEST(two_hundred_descriptors_and_a_large_payload_fit_one_message),
		TEST(what_is_too_much_is_not_sent),
		TEST(a_peer_that_is_gone_is_a_broken_pipe),
		TEST(a_socket_with_nothing_in_it_says_so),
		TEST(a_full_socket_says_so_and_sends_nothing),
		TEST(headers_that_lie_are_refused),
		TEST(half_a_header_is_refused),
		TEST(a_datagram_too_long_is_refused_as_truncated),
		TEST(descriptors_where_none_belong_are_closed),
		TEST(more_descriptors_than_any_message_has_are_closed),
		TEST(a_payload_in_a_descriptor_has_to_be_sealed),
		TEST(a_payload_in_a_descriptor_has_the_size_announced),
		TEST(a_pipe_is_no_payload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fuzz-message.c - the input is a datagram from a helper; what is accepted is stepped through as events. */
#include "lib/event.h"
#include "lib/message.h"

#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum;

static void step(const struct ds_message *m)
{
	const struct ds_event_header *h;
	const uint8_t *body;
	size_t offset = 0;

	while (ds_event_next(m->data, m->size, &offset, &h, &body) == 1)
		for (uint32_t i = 0; i < h->size; i++)
			sum += body[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int sockets[2] = {-1, -1};
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};

	if (sockets[0] < 0 && ds_message_socketpair(sockets) < 0)
		abort();
	if (size == 0 || send(sockets[0], data, size, MSG_DONTWAIT) != (ssize_t)size)
		return 0;
	if (ds_message_receive(sockets[1], &m, NULL) == 0)
		step(&m);
	return 0;
}

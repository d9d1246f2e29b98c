/* fuzz-sse.c - the input is a stream of server-sent events. Cut into single bytes it must say the same as in one piece.
 */
#include "client/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FNV-1a over the events and their ends. */
static int on_event(void *self, const char *data, size_t size, struct ds_error *err)
{
	uint64_t *hash = self;

	for (size_t i = 0; i <= size; i++)
		*hash = (*hash ^ (i < size ? (unsigned char)data[i] : 0x100u)) * 0x100000001b3u;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ds_sse whole = {0}, cut = {0};
	uint64_t of_whole = 0, of_cut = 0;

	ds_sse_feed(&whole, (const char *)data, size, on_event, &of_whole, NULL);
	for (size_t i = 0; i < size; i++)
		ds_sse_feed(&cut, (const char *)data + i, 1, on_event, &of_cut, NULL);
	if (of_whole != of_cut)
		abort();
	ds_sse_deinit(&whole);
	ds_sse_deinit(&cut);
	return 0;
}

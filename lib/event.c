/* event.c - stepping through a batch of events that came from an engine, without believing it. */
#include "event.h"

int ds_event_next(const uint8_t *batch, size_t batch_size, size_t *offset, const struct ds_event_header **header,
		  const uint8_t **body)
{
	const struct ds_event_header *h;
	size_t left = batch_size - *offset;

	if (left == 0)
		return 0;
	if (left < sizeof(*h))
		return -EPROTO;
	h = (const struct ds_event_header *)(batch + *offset);
	if (h->size > left - sizeof(*h) || ds_event_size(h->size) > left)
		return -EPROTO;
	*header = h;
	*body = (const uint8_t *)(h + 1);
	*offset += ds_event_size(h->size);
	return 1;
}

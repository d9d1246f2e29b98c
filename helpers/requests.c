/* requests.c - the table of what dsctl may ask. */
#include "requests.h"

static const struct {
	uint16_t type;
	ds_request_function *function;
} requests[] = {
	{DS_MSG_INSPECT, ds_request_inspect},
	{DS_MSG_QUANTIZE, ds_request_quantize},
	{DS_MSG_TOKENIZE, ds_request_tokenize},
	{DS_MSG_RENDER, ds_request_render},
};

ds_request_function *ds_request_find(uint16_t type)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(requests); i++)
		if (requests[i].type == type)
			return requests[i].function;
	return NULL;
}

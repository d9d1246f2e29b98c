/* requests.c - the table of what dsctl may ask. */
#include "requests.h"

/* Texts to tokenize are bytes of any kind; what is wrong with one in a conversation is said with its place. */
static const struct ds_request_kind requests[] = {
	{DS_MSG_INSPECT, ds_request_inspect, 0},
	{DS_MSG_QUANTIZE, ds_request_quantize, 0},
	{DS_MSG_TOKENIZE, ds_request_tokenize, JSON_ALLOW_NUL},
	{DS_MSG_RENDER, ds_request_render, JSON_ALLOW_NUL},
};

const struct ds_request_kind *ds_request_find(uint16_t type)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(requests); i++)
		if (requests[i].type == type)
			return &requests[i];
	return NULL;
}

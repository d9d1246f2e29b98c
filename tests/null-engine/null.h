/* null.h - what the null loader and the null engine share.
 *
 * They stand in for ds-loader and ds-engine (deepseekd --libexec-dir) in tests of the broker: they speak the protocol
 * and compute nothing. The loader obeys the file null.json of the "checkpoint", the engine obeys words NAME=NUMBER in
 * the prompt; see the tables in each. */
#pragma once

#include <message.h>

#include <jansson.h>
#include <string.h>

#define NULL_VOCAB 16

/* The number after "@name=" in @text, else @otherwise. */
static inline long null_word(const char *text, const char *name, long otherwise)
{
	size_t size = strlen(name);

	for (const char *p = text; (p = strstr(p, name)); p += size)
		if (p[size] == '=' && (p == text || p[-1] == ' '))
			return strtol(p + size + 1, NULL, 10);
	return otherwise;
}

static inline void null_send_json(uint16_t type, json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	ds_message_send(3, type, 0, text, strlen(text), NULL, 0);
	free(text);
	json_decref(json);
}

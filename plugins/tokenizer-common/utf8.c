/* utf8.c - well-formed UTF-8 as in table 3-7 of the Unicode Standard: no overlong forms, no surrogates. */
#include "common.h"

/* Lead bytes, how many bytes follow, and what the first of those may be. */
static const struct {
	uint8_t first, last, n_more, low, high;
} leads[] = {
	{0x00, 0x7F, 0, 0, 0},       {0xC2, 0xDF, 1, 0x80, 0xBF}, {0xE0, 0xE0, 2, 0xA0, 0xBF},
	{0xE1, 0xEC, 2, 0x80, 0xBF}, {0xED, 0xED, 2, 0x80, 0x9F}, {0xEE, 0xEF, 2, 0x80, 0xBF},
	{0xF0, 0xF0, 3, 0x90, 0xBF}, {0xF1, 0xF3, 3, 0x80, 0xBF}, {0xF4, 0xF4, 3, 0x80, 0x8F},
};

enum ds_utf8 ds_utf8_next(const char *text, size_t n, size_t *size)
{
	const uint8_t *bytes = (const uint8_t *)text;

	*size = 1;
	for (size_t i = 0; i < DS_ARRAY_SIZE(leads); i++) {
		if (bytes[0] < leads[i].first || bytes[0] > leads[i].last)
			continue;
		for (size_t k = 1; k <= leads[i].n_more; k++) {
			uint8_t low = k == 1 ? leads[i].low : 0x80, high = k == 1 ? leads[i].high : 0xBF;

			*size = k;
			if (k == n)
				return DS_UTF8_UNFINISHED;
			if (bytes[k] < low || bytes[k] > high)
				return DS_UTF8_INVALID;
		}
		*size = leads[i].n_more + 1u;
		return DS_UTF8_CHARACTER;
	}
	return DS_UTF8_INVALID;
}

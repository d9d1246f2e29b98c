/* alphabet.c - byte-level vocabularies are written in an alphabet of 256 printable characters, one a byte: the
 * printable ones of Latin-1 are themselves, the others follow from U+0100 in rising order. */
#include "common.h"

#define N_LETTERS (256 + 68)

/* The byte of a character, or -1. Counting again each time is cheap: there are 68 of them. */
static int byte_of(unsigned c)
{
	unsigned next = 256;

	if ((c >= 33 && c <= 126) || (c >= 161 && c <= 255 && c != 173))
		return (int)c;
	if (c < 256 || c >= N_LETTERS)
		return -1;
	for (unsigned b = 0; b < 256; b++) {
		bool itself = (b >= 33 && b <= 126) || (b >= 161 && b != 173);

		if (!itself && next++ == c)
			return (int)b;
	}
	return -1;
}

bool ds_alphabet_undo(const char *text, size_t size, char *out, uint32_t *out_size)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + size;
	uint32_t n = 0;

	/* the alphabet ends below U+0800: one byte or two */
	while (p < end) {
		unsigned c = *p++;
		int byte;

		if (c >= 0xc0 && c < 0xe0 && p < end && (*p & 0xc0) == 0x80)
			c = (c & 0x1f) << 6 | (*p++ & 0x3f);
		else if (c >= 0x80)
			return false;
		byte = byte_of(c);
		if (byte < 0)
			return false;
		out[n++] = (char)byte;
	}
	*out_size = n;
	return true;
}

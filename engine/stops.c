/* stops.c - stop strings. Character by character: a new one either completes a stop string, or all that no stop string can
 * begin in any more is let go. Stop strings begin with a whole character, so what is held back does too. */
#include "stops.h"

#include <string.h>

struct ds_stops {
	size_t n_texts, max_size;
	char **texts;
	size_t *sizes;
	char *held; /* [max_size + 4] */
	size_t n_held;
	bool met;
};

int ds_stops_new(struct ds_stops **out, const char *const *texts, size_t n_texts, struct ds_error *err)
{
	ds_cleanup(ds_stops_freep) struct ds_stops *stops = calloc(1, sizeof(*stops));

	if (stops) {
		stops->texts = calloc(n_texts + 1, sizeof(*stops->texts));
		stops->sizes = calloc(n_texts + 1, sizeof(*stops->sizes));
	}
	if (!stops || !stops->texts || !stops->sizes)
		return ds_fail(err, -ENOMEM, "no memory for stop strings");
	for (size_t i = 0; i < n_texts; i++) {
		stops->texts[i] = strdup(texts[i]);
		if (!stops->texts[i])
			return ds_fail(err, -ENOMEM, "no memory for stop strings");
		stops->n_texts++;
		stops->sizes[i] = strlen(texts[i]);
		if (stops->sizes[i] > stops->max_size)
			stops->max_size = stops->sizes[i];
	}
	stops->held = malloc(stops->max_size + 4);
	if (!stops->held)
		return ds_fail(err, -ENOMEM, "no memory for stop strings");
	*out = ds_steal(&stops);
	return 0;
}

struct ds_stops *ds_stops_free(struct ds_stops *stops)
{
	if (!stops)
		return NULL;
	for (size_t i = 0; i < stops->n_texts; i++)
		free(stops->texts[i]);
	free(stops->texts);
	free(stops->sizes);
	free(stops->held);
	free(stops);
	return NULL;
}

/* Some stop string begins with the @n bytes at @text; with @whole: is them. */
static bool begins(const struct ds_stops *stops, const char *text, size_t n, bool whole)
{
	for (size_t i = 0; i < stops->n_texts; i++)
		if ((whole ? n == stops->sizes[i] : n <= stops->sizes[i]) && memcmp(text, stops->texts[i], n) == 0)
			return true;
	return false;
}

/* Let go of what cannot begin a stop string. True: one was met, and what came before it is let go. Among several that
 * end here the one that begins first wins. */
static bool let_go(struct ds_stops *stops, ds_stops_write *write, void *self)
{
	size_t start = 0, n = stops->n_held;
	bool met;

	while (start < n && !begins(stops, stops->held + start, n - start, true))
		start++;
	met = start < n;
	if (!met)
		for (start = 0; start < n && !begins(stops, stops->held + start, n - start, false);)
			start++;
	if (start > 0)
		write(self, stops->held, start);
	stops->n_held = n - start;
	memmove(stops->held, stops->held + start, stops->n_held);
	return met;
}

/* Bytes of the character that begins with @lead. */
static size_t character_size(char lead)
{
	uint8_t c = (uint8_t)lead;

	return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

bool ds_stops_feed(struct ds_stops *stops, const char *text, size_t size, ds_stops_write *write, void *self)
{
	size_t at = 0;

	while (!stops->met && at < size) {
		size_t n = 0;

		/* The common case in one write: nothing is held and no stop string begins here. */
		while (stops->n_held == 0 && at + n < size && !begins(stops, text + at + n, 1, false))
			n++;
		if (n > 0)
			write(self, text + at, n);
		at += n;
		if (at == size)
			break;
		n = character_size(text[at]);
		if (n > size - at)
			n = size - at;
		memcpy(stops->held + stops->n_held, text + at, n);
		stops->n_held += n;
		at += n;
		stops->met = let_go(stops, write, self);
	}
	if (stops->met)
		stops->n_held = 0;
	return stops->met;
}

void ds_stops_finish(struct ds_stops *stops, ds_stops_write *write, void *self)
{
	if (stops->n_held > 0)
		write(self, stops->held, stops->n_held);
	stops->n_held = 0;
}

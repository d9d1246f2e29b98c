/* stops.h - finds stop strings in text that arrives in pieces, holding back what may be the beginning of one.
 *
 * Text goes in in pieces of whole UTF-8 characters and comes out in such pieces. What is held back is never longer than
 * the longest stop string. */
#pragma once

#include <deepseekd/base.h>

struct ds_stops;

typedef void ds_stops_write(void *self, const char *text, size_t size);

/* Copies @texts (valid UTF-8, none empty). */
int ds_stops_new(struct ds_stops **out, const char *const *texts, size_t n_texts, struct ds_error *err);
struct ds_stops *ds_stops_free(struct ds_stops *stops); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_stops)

/* Pass @text on to @write, but for what is held back. True: a stop string was met; it and all after it is dropped, and
 * nothing may be fed any more. */
bool ds_stops_feed(struct ds_stops *stops, const char *text, size_t size, ds_stops_write *write, void *self);
/* The text has ended: hand over what was held back. */
void ds_stops_finish(struct ds_stops *stops, ds_stops_write *write, void *self);

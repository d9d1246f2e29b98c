/* huge.h - collapses the mapped image to huge pages, in the background: decoding reads all of it for every token. */
#pragma once

#include "image.h"

struct ds_huge;

/* Start at the lowest priority. NULL: there was no thread; the image works as it is. */
struct ds_huge *ds_huge_new(const struct ds_image *image);
/* Wait until all is done that can be. */
void ds_huge_finish(struct ds_huge *huge); /* takes NULL */
/* Waits for the piece it is at. Takes NULL, returns NULL. */
struct ds_huge *ds_huge_free(struct ds_huge *huge);

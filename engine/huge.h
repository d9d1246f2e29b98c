/* huge.h - collapses the mapped image to huge pages: decoding reads all of it for every token. */
#pragma once

#include "image.h"

struct ds_huge;

/* Start in the background at the lowest priority; @image outlives it. NULL: there was no thread; the image works as it is. */
struct ds_huge *ds_huge_new(const struct ds_image *image);
/* Waits for the piece it is at. Takes NULL, returns NULL. */
struct ds_huge *ds_huge_free(struct ds_huge *huge);

/* All that can be, now. */
void ds_huge_collapse(const struct ds_image *image);

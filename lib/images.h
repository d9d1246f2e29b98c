/* images.h - the memory of a model image: made at its exact size, written by one loader, sealed, read by engines.
 *
 * Who makes it, the broker or dsctl, holds descriptors only, and never maps or reads an image. */
#pragma once

#include <deepseekd/base.h>

/* A memfd of exactly @size bytes that can neither shrink nor grow. Returns the writable descriptor. */
int ds_images_create(const char *name, uint64_t size, struct ds_error *err);

/* The loader has exited: seal @fd against all change and reopen it read-only. Returns the new descriptor; @fd stays the
 * caller's, to be closed. */
int ds_images_seal(int fd, struct ds_error *err);

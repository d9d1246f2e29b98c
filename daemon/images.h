/* images.h - the memory of a model image: made at its exact size, written by one loader, sealed, read by engines.
 *
 * The broker holds descriptors only: it never maps or reads an image. */
#pragma once

#include <deepseekd/base.h>

/* A memfd of exactly @size bytes that can neither shrink nor grow. Returns the writable descriptor. */
int ds_images_create(const char *name, uint64_t size, struct ds_error *err);

/* The loader has exited: seal @fd against all change and reopen it read-only. Returns the new descriptor; @fd stays the
 * caller's, to be closed. */
int ds_images_seal(int fd, struct ds_error *err);

/* What a model takes of memory, in bytes. */
struct ds_memory_need {
	uint64_t image, kv, scratch;
	uint64_t mapped;	    /* weights that stay in their files: told, not counted */
	uint64_t context, parallel; /* what the KV cache is for: so many texts of so many tokens */
};

/* Of a model as its loader planned it, with a KV cache for @parallel texts of @context tokens. */
struct ds_plan;
struct ds_memory_need ds_images_need(const struct ds_plan *plan, uint64_t context, uint64_t parallel);

/* Image, KV cache and scratch. UINT64_MAX: more than that. */
uint64_t ds_memory_need_sum(const struct ds_memory_need *need);

/* Can a model of @need be taken, when others hold @held of @limit? @present: its image is in memory already. -ENOMEM with
 * all the numbers. */
int ds_images_check_memory(const struct ds_memory_need *need, bool present, uint64_t held, uint64_t limit,
			   struct ds_error *err);

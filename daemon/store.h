/* store.h - images that outlive the daemon: systemd's file descriptor store.
 *
 * An image goes there when its model is ready, as img-HASH, and beside it about-HASH: a small sealed memfd with the JSON of
 * what the broker knows of the image (struct ds_about), so that it never has to look into one. A memfd and no file of the
 * state directory, because it then lives exactly as long as the image: neither can be left over without the other, and
 * nobody but systemd and the daemon can write or replace it.
 *
 * HASH names the identity: version of images, what LOAD asked for, and device, inode, size and time of the last change of
 * every file. The whole identity stands in about-HASH and is compared, so the hash need not be a strong one. What the backend
 * calls its layouts and instruction set stands in the image, and the engine compares it: one that refuses a kept image
 * makes the model load anew. Where no systemd listens, all of this does nothing. */
#pragma once

#include "mapped.h"
#include "passed.h"

#include <message.h>

struct ds_store;

/* What the broker needs of an image besides the image. */
struct ds_about {
	struct ds_plan plan;
	uint64_t n_loads;
	json_t *loaded; /* JSON of LOADED */
};

/* An image taken back from systemd. */
struct ds_restored {
	int image;
	char *identity;
	struct ds_about about;
	struct ds_mapped *mapped; /* the files that it stays in; NULL: none */
};

/* Take what systemd kept from @passed. Whatever is not a sealed memfd that can only be read is let go, and said so. */
int ds_store_new(struct ds_store **out, struct ds_passed *passed, struct ds_error *err);
struct ds_store *ds_store_free(struct ds_store *store); /* takes NULL, returns NULL; what is stored stays so */
DS_DEFINE_FREEP(ds_store)

/* What makes two images the same: JSON text, to be freed. @load: payload of LOAD. NULL: no memory, or a file is gone. */
char *ds_store_identify(const json_t *load, const struct ds_files *files);

/* Take the image of the model at @path, loaded as @load says, if systemd kept it and every file is what it was. -ENOENT: there
 * is none. All of *@out is the caller's. */
int ds_store_take(struct ds_store *store, const json_t *load, const char *path, struct ds_restored *out);
/* Let go of what nobody took. */
void ds_store_drop_unclaimed(struct ds_store *store);

/* Give @image to systemd, both descriptors stay the caller's. An error costs no more than a load after the next start. */
int ds_store_put(struct ds_store *store, const char *identity, int image, const struct ds_about *about, struct ds_error *err);
/* Does systemd keep images also while the service is not running? */
bool ds_store_outlives_service(void);
void ds_store_remove(struct ds_store *store, const char *identity);

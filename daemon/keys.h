/* keys.h - the API keys of clients by TCP, in a file of the state directory that holds their hashes alone.
 *
 * A key is "dsk-ID-SECRET": eight hexadecimal digits by which it is found, and 64 that are 256 random bits. Slow hashes
 * protect words that people choose, which could be tried one by one; nobody tries 2^256 numbers, so a hash at the least
 * cost that crypt(3) allows is as good. That is a millisecond or three, which would hold others up if each request paid
 * it: only a key whose ID exists does, and only the first time, since a key that was right is remembered in memory. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

#define DS_KEY_TEXT_SIZE (4 + 8 + 1 + 64 + 1)
#define DS_KEYS_MAX 256

struct ds_keys;

/* @path is borrowed. A file that is not there holds no keys; one that cannot be understood is an error, and is left as
 * it is. */
int ds_keys_new(struct ds_keys **out, const char *path, struct ds_error *err);
struct ds_keys *ds_keys_free(struct ds_keys *keys); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_keys)

/* The name of the key that is @text, borrowed until keys change; NULL: it is none. */
const char *ds_keys_find(const struct ds_keys *keys, const char *text);

/* A new one; only here its text is told. -EEXIST: the name is taken; -EINVAL: it is no name. */
int ds_keys_add(struct ds_keys *keys, const char *name, char text[DS_KEY_TEXT_SIZE], struct ds_error *err);
int ds_keys_remove(struct ds_keys *keys, const char *name, struct ds_error *err); /* -ENOENT: there is none */
/* [{"name", "created"}], seconds since 1970. */
json_t *ds_keys_list(const struct ds_keys *keys);

/* keys.c - API keys: made, found by their hash, and kept in a file. */
#include "keys.h"
#include "config.h"

#include <crypt.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define SETTING "$5$rounds=1000$" /* SHA-256 of crypt(3), at its least cost */
#define FILE_MAX (1u << 20)

struct ds_keys {
	const char *path;
	json_t *list;  /* array of {"name", "id", "hash", "created"}, as in the file */
	json_t *known; /* {id: text}: keys that were right since the list changed */
};

static const char *text_of(const json_t *entry, const char *key)
{
	const char *text = json_string_value(json_object_get(entry, key));

	return text ? text : "";
}

/* Takes as long for every text of the same length. */
static bool equals(const char *a, const char *b)
{
	size_t n = strlen(a);
	volatile unsigned char differs = 0;

	if (strlen(b) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(a[i] ^ b[i]);
	return !differs;
}

/* The hash of @text by the salt of @setting, or NULL. Free it with free(). */
static char *hash_of(const char *text, const char *setting)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *hash = data ? crypt_r(text, setting, data) : NULL;
	char *copy = hash && hash[0] != '*' ? strdup(hash) : NULL;

	if (data)
		explicit_bzero(data, sizeof(*data));
	free(data);
	return copy;
}

const char *ds_keys_find(const struct ds_keys *keys, const char *text)
{
	const json_t *entry;
	size_t i;

	if (strlen(text) != DS_KEY_TEXT_SIZE - 1 || strncmp(text, "dsk-", 4))
		return NULL;
	json_array_foreach (keys->list, i, entry) {
		ds_cleanup(ds_freep) char *hash = NULL;
		const char *id = text_of(entry, "id");

		if (strncmp(text + 4, id, 8))
			continue;
		if (equals(text, text_of(keys->known, id)))
			return text_of(entry, "name");
		hash = hash_of(text, text_of(entry, "hash"));
		if (hash && equals(hash, text_of(entry, "hash"))) {
			json_object_set_new(keys->known, id, json_string(text));
			return text_of(entry, "name");
		}
	}
	return NULL;
}

static size_t index_of(const struct ds_keys *keys, const char *name)
{
	size_t i = 0;

	while (i < json_array_size(keys->list) && strcmp(text_of(json_array_get(keys->list, i), "name"), name))
		i++;
	return i;
}

/* All of the new file is there, or the old one. */
static int write_file(const struct ds_keys *keys, const json_t *list, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *root = json_pack("{s:i, s:O}", "version", 1, "keys", list);
	ds_cleanup(ds_freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	ds_cleanup(ds_closep) int fd = -1;
	char path[4096];
	int r = 0;

	if (!text)
		return ds_fail(err, -ENOMEM, "no memory");
	snprintf(path, sizeof(path), "%s.new", keys->path);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd) < 0 ||
	    rename(path, keys->path) < 0)
		r = ds_fail(err, errno ? -errno : -EIO, "%s cannot be written: %s", path, strerror(errno));
	if (r < 0)
		unlink(path);
	return r;
}

/* Put @list, which is consumed, into the file and then into force. */
static int replace(struct ds_keys *keys, json_t *list, struct ds_error *err)
{
	int r = list ? write_file(keys, list, err) : ds_fail(err, -ENOMEM, "no memory");

	if (r < 0) {
		json_decref(list);
		return r;
	}
	json_object_clear(keys->known);
	json_decref(keys->list);
	keys->list = list;
	return 0;
}

static void to_hex(char *out, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static int make_text(char text[DS_KEY_TEXT_SIZE], char setting[40])
{
	uint8_t bytes[4 + 32 + 8];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -errno;
	memcpy(text, "dsk-", 4);
	to_hex(text + 4, bytes, 4);
	text[12] = '-';
	to_hex(text + 13, bytes + 4, 32);
	memcpy(setting, SETTING, sizeof(SETTING));
	to_hex(setting + sizeof(SETTING) - 1, bytes + 36, 8);
	explicit_bzero(bytes, sizeof(bytes));
	return 0;
}

int ds_keys_add(struct ds_keys *keys, const char *name, char text[DS_KEY_TEXT_SIZE], struct ds_error *err)
{
	ds_cleanup(ds_freep) char *hash = NULL;
	char setting[40];
	json_t *list;
	int r;

	if (!ds_config_is_name(name))
		return ds_fail(err, -EINVAL, "a key's name has up to 64 letters, digits and . _ : -");
	if (index_of(keys, name) < json_array_size(keys->list))
		return ds_fail(err, -EEXIST, "there is a key \"%s\" already", name);
	if (json_array_size(keys->list) >= DS_KEYS_MAX)
		return ds_fail(err, -ENOSPC, "there are %d keys already, and no more can be", DS_KEYS_MAX);
	r = make_text(text, setting);
	hash = r == 0 ? hash_of(text, setting) : NULL;
	if (!hash)
		return ds_fail(err, -EIO, "no key can be made: this system's crypt() has no SHA-256");
	list = json_copy(keys->list);
	json_array_append_new(list, json_pack("{s:s, s:s#, s:s, s:I}", "name", name, "id", text + 4, (size_t)8, "hash",
					      hash, "created", (json_int_t)time(NULL)));
	return replace(keys, list, err);
}

int ds_keys_remove(struct ds_keys *keys, const char *name, struct ds_error *err)
{
	size_t i = index_of(keys, name);
	json_t *list;

	if (i == json_array_size(keys->list))
		return ds_fail(err, -ENOENT, "there is no key \"%.100s\"", name);
	list = json_copy(keys->list);
	json_array_remove(list, i);
	return replace(keys, list, err);
}

json_t *ds_keys_list(const struct ds_keys *keys)
{
	json_t *list = json_array();
	const json_t *entry;
	size_t i;

	json_array_foreach (keys->list, i, entry)
		json_array_append_new(list, json_pack("{s:O, s:O}", "name", json_object_get(entry, "name"), "created",
						      json_object_get(entry, "created")));
	return list;
}

static int check_entry(const char *path, size_t i, const json_t *entry, struct ds_error *err)
{
	if (!ds_config_is_name(text_of(entry, "name")) || strlen(text_of(entry, "id")) != 8 ||
	    text_of(entry, "hash")[0] != '$' || !json_is_integer(json_object_get(entry, "created")))
		return ds_fail(err, -EINVAL, "%s: key %zu is malformed", path, i + 1);
	return 0;
}

static int read_file(struct ds_keys *keys, struct ds_error *err)
{
	ds_cleanup(ds_closep) int fd = open(keys->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ds_cleanup(json_decrefp) json_t *root = NULL;
	const json_t *entry;
	json_error_t problem;
	struct stat st;
	size_t i;
	int r = 0;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return ds_fail(err, -errno, "%s: %s", keys->path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return ds_fail(err, -EINVAL, "%s is no file of keys", keys->path);
	root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &problem);
	if (!root)
		return ds_fail(err, -EINVAL, "%s:%d:%d: %s", keys->path, problem.line, problem.column, problem.text);
	if (json_integer_value(json_object_get(root, "version")) != 1 || !json_is_array(json_object_get(root, "keys")))
		return ds_fail(err, -EINVAL, "%s: not a file of keys of version 1", keys->path);
	json_array_foreach (json_object_get(root, "keys"), i, entry)
		if (r == 0)
			r = check_entry(keys->path, i, entry, err);
	if (r < 0)
		return r;
	json_decref(keys->list);
	keys->list = json_incref(json_object_get(root, "keys"));
	return 0;
}

int ds_keys_new(struct ds_keys **out, const char *path, struct ds_error *err)
{
	ds_cleanup(ds_keys_freep) struct ds_keys *keys = calloc(1, sizeof(*keys));
	int r;

	if (keys)
		*keys = (struct ds_keys){.path = path, .list = json_array(), .known = json_object()};
	if (!keys || !keys->list || !keys->known)
		return ds_fail(err, -ENOMEM, "no memory");
	r = read_file(keys, err);
	if (r == 0)
		*out = ds_steal(&keys);
	return r;
}

struct ds_keys *ds_keys_free(struct ds_keys *keys)
{
	if (!keys)
		return NULL;
	json_decref(keys->list);
	json_decref(keys->known);
	free(keys);
	return NULL;
}

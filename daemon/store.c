/* store.c - speaks with systemd's file descriptor store. */
#include "store.h"
#include "images.h"
#include "log.h"

#include <fcntl.h>
#include <image.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#define ABOUT_MAX (4u << 20) /* identity (a line a file) and LOADED, both of which have bounds */
#define HASH_SIZE 17
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct entry {
	struct entry *next;
	char hash[HASH_SIZE];
	int image, about; /* -1: systemd did not have it */
};

struct ds_store {
	struct entry *unclaimed;
};

/* FNV-1a, 64 bits (G. Fowler, L. C. Noll, K.-P. Vo): it only names. */
static void hash_of(char hash[HASH_SIZE], const char *identity)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *identity; identity++)
		h = (h ^ (unsigned char)*identity) * 0x100000001b3ull;
	snprintf(hash, HASH_SIZE, "%016llx", (unsigned long long)h);
}

static json_t *identify_file(const char *name, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return NULL;
	return json_pack("[s, I, I, I, I, I]", name, (json_int_t)st.st_dev, (json_int_t)st.st_ino, (json_int_t)st.st_size,
			 (json_int_t)st.st_mtim.tv_sec, (json_int_t)st.st_mtim.tv_nsec);
}

char *ds_store_identify(const json_t *load, const struct ds_files *files)
{
	json_t *list = json_array(), *all;
	char *text = NULL;
	int r = list ? 0 : -1;

	for (size_t i = 0; i < files->n && r == 0; i++)
		r = json_array_append_new(list, identify_file(files->names[i], files->fds[i]));
	all = json_pack("{s:i, s:O, s:o}", "image", (int)DS_IMAGE_VERSION, "load", load, "files", list);
	if (all && r == 0)
		text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(all);
	return text;
}

/* One that can neither change nor be changed through this descriptor. */
static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS), flags = fcntl(fd, F_GETFL);

	return seals >= 0 && (seals & SEALS) == SEALS && flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
}

static void tell_removed(const char *hash)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=img-%s", hash);
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=about-%s", hash);
}

static struct entry *free_entry(struct entry *e)
{
	if (e->image >= 0)
		close(e->image);
	if (e->about >= 0)
		close(e->about);
	free(e);
	return NULL;
}

/* The entry of @hash, made if it is not there. NULL: no memory. */
static struct entry *get_entry(struct ds_store *store, const char *hash)
{
	struct entry *e = store->unclaimed;

	while (e && strcmp(e->hash, hash))
		e = e->next;
	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	*e = (struct entry){.next = store->unclaimed, .image = -1, .about = -1};
	snprintf(e->hash, sizeof(e->hash), "%s", hash);
	store->unclaimed = e;
	return e;
}

static int take_kind(struct ds_store *store, struct ds_passed *passed, const char *prefix, size_t offset,
		     struct ds_error *err)
{
	const char *name;
	size_t at = 0;
	int fd;

	while ((fd = ds_passed_next(passed, &at, prefix, &name)) >= 0) {
		struct entry *e = get_entry(store, name + strlen(prefix));
		int *slot = e ? (int *)((char *)e + offset) : NULL;

		if (slot && *slot < 0 && is_sealed(fd))
			*slot = ds_steal_fd(&fd);
		else
			ds_log(LOG_WARNING, "%s, which systemd kept, is not a sealed image: dropped", name);
		if (fd >= 0)
			close(fd);
		if (!e)
			return ds_fail(err, -ENOMEM, "no memory for what systemd kept");
	}
	return 0;
}

int ds_store_new(struct ds_store **out, struct ds_passed *passed, struct ds_error *err)
{
	ds_cleanup(ds_store_freep) struct ds_store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return ds_fail(err, -ENOMEM, "no memory");
	r = take_kind(store, passed, "img-", offsetof(struct entry, image), err);
	if (r == 0)
		r = take_kind(store, passed, "about-", offsetof(struct entry, about), err);
	if (r < 0)
		return r;
	*out = ds_steal(&store);
	return 0;
}

struct ds_store *ds_store_free(struct ds_store *store)
{
	struct entry *e;

	if (!store)
		return NULL;
	while ((e = store->unclaimed)) {
		store->unclaimed = e->next;
		free_entry(e);
	}
	free(store);
	return NULL;
}

/* The JSON in a memfd of ours. NULL: it is not. */
static json_t *read_about(int fd)
{
	ds_cleanup(ds_freep) char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > ABOUT_MAX)
		return NULL;
	text = malloc((size_t)st.st_size);
	if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
		return NULL;
	return json_loadb(text, (size_t)st.st_size, JSON_REJECT_DUPLICATES, NULL);
}

/* Fill @about from @json if it is of @identity and of an image as large as @image. */
static int understand(const json_t *json, const char *identity, int image, struct ds_about *about)
{
	json_int_t weights, mapped, kv, scratch, size, context, loads;
	const char *of;
	json_t *loaded;
	struct stat st;

	if (json_unpack((json_t *)json, "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "identity", &of, "weights",
			&weights, "mapped", &mapped, "kv_per_token", &kv, "scratch", &scratch, "size", &size, "context",
			&context, "loads", &loads, "loaded", &loaded) < 0 ||
	    strcmp(of, identity) || !json_is_object(loaded) || fstat(image, &st) < 0 || st.st_size != size)
		return -ENOENT;
	*about = (struct ds_about){.plan = {.weights_size = (uint64_t)weights,
					    .mapped_size = (uint64_t)mapped,
					    .kv_size_per_token = (uint64_t)kv,
					    .scratch_size = (uint64_t)scratch,
					    .image_size = (uint64_t)size,
					    .context = (uint64_t)context},
				   .n_loads = (uint64_t)loads,
				   .loaded = json_incref(loaded)};
	return 0;
}

static int take_image(struct ds_store *store, const char *identity, struct ds_about *about)
{
	struct entry **at = &store->unclaimed, *e;
	char hash[HASH_SIZE];
	int image = -1;
	json_t *json;

	hash_of(hash, identity);
	while (*at && strcmp((*at)->hash, hash))
		at = &(*at)->next;
	e = *at;
	if (!e || e->image < 0)
		return -ENOENT;
	json = read_about(e->about);
	if (json && understand(json, identity, e->image, about) == 0) {
		image = ds_steal_fd(&e->image);
		*at = e->next;
		free_entry(e);
	}
	json_decref(json);
	return image >= 0 ? image : -ENOENT; /* one that is not understood stays unclaimed, and is dropped */
}

int ds_store_take(struct ds_store *store, const json_t *load, const char *path, struct ds_restored *out)
{
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};
	ds_cleanup(ds_freep) char *identity = NULL;
	struct ds_restored taken = {.image = -1};
	const json_t *names;

	if (!store->unclaimed || ds_files_open(&files, path, NULL) < 0)
		return -ENOENT;
	identity = ds_store_identify(load, &files);
	taken.image = identity ? take_image(store, identity, &taken.about) : -ENOENT;
	if (taken.image < 0)
		return -ENOENT;
	names = json_object_get(taken.about.loaded, "files");
	if (json_array_size(names) > 0 && ds_mapped_new(&taken.mapped, &files, names, NULL) < 0) {
		close(taken.image);
		json_decref(taken.about.loaded);
		ds_store_remove(store, identity);
		return -ENOENT;
	}
	taken.identity = ds_steal(&identity);
	*out = taken;
	return 0;
}

void ds_store_drop_unclaimed(struct ds_store *store)
{
	struct entry *e;

	while ((e = store->unclaimed)) {
		store->unclaimed = e->next;
		ds_log(LOG_NOTICE, "img-%s, which systemd kept, belongs to no model as it is now: dropped", e->hash);
		tell_removed(e->hash);
		free_entry(e);
	}
}

/* A sealed memfd with @json in it, to be read only. */
static int write_about(const json_t *json, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	ds_cleanup(ds_closep) int fd = -1;
	size_t size = text ? strlen(text) : 0;

	if (!text || size > ABOUT_MAX)
		return ds_fail(err, -ENOMEM, "what is known of an image cannot be written down");
	fd = ds_images_create("about", size, err);
	if (fd < 0)
		return fd;
	if (pwrite(fd, text, size, 0) != (ssize_t)size)
		return ds_fail(err, -EIO, "what is known of an image cannot be written down");
	return ds_images_seal(fd, err);
}

int ds_store_put(struct ds_store *store, const char *identity, int image, const struct ds_about *about, struct ds_error *err)
{
	const struct ds_plan *p = &about->plan;
	ds_cleanup(ds_closep) int note = -1;
	char hash[HASH_SIZE], state[64];
	json_t *json;
	int r;

	if (!getenv("NOTIFY_SOCKET"))
		return 0;
	json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "identity", identity, "weights",
			 (json_int_t)p->weights_size, "mapped", (json_int_t)p->mapped_size, "kv_per_token",
			 (json_int_t)p->kv_size_per_token, "scratch", (json_int_t)p->scratch_size, "size",
			 (json_int_t)p->image_size, "context", (json_int_t)p->context, "loads", (json_int_t)about->n_loads,
			 "loaded", about->loaded);
	note = write_about(json, err);
	json_decref(json);
	if (note < 0)
		return note;
	/* First what it is, then the image: a crash between the two leaves nothing that would be mistaken. */
	hash_of(hash, identity);
	snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=about-%s", hash);
	r = sd_pid_notify_with_fds(0, 0, state, &note, 1);
	snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=img-%s", hash);
	if (r > 0)
		r = sd_pid_notify_with_fds(0, 0, state, &image, 1);
	return r < 0 ? ds_fail(err, r, "systemd does not take the image: %s", strerror(-r)) : 0;
}

bool ds_store_outlives_service(void)
{
	return DS_STORE_PRESERVED && getenv("FDSTORE"); /* the unit says FileDescriptorStorePreserve=, and systemd knows it */
}

void ds_store_remove(struct ds_store *store, const char *identity)
{
	char hash[HASH_SIZE];

	hash_of(hash, identity);
	tell_removed(hash);
}

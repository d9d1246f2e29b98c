/* loader-broker.h - the broker's part, played to the real ds-loader with the real plugins, for its tests.
 *
 * Runs in the build folder. Files are copies in memory, so that a test may spoil them. */
#pragma once

#include "dtype.h"
#include "image.h"
#include "message.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOAD                                                                                                           \
	"{\"model\": \"m\", \"precision\": \"exact\", \"parallel\": 1, \"kv_type\": \"f32\","                           \
	" \"backend\": \"auto\", \"dialect\": \"auto\"}"

enum { MAX_FILES = 8 };

struct broker {
	char plugin_dir[64]; /* copies of the plugins: the build folder's own modes depend on the umask */
	pid_t loader;
	int socket;
	const char *names[MAX_FILES];
	int files[MAX_FILES];
	unsigned n_files;
};

static inline void copy_plugin(const struct broker *b, const char *name)
{
	char path[256], data[65536];
	int from = open(name, O_RDONLY | O_CLOEXEC), to;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", b->plugin_dir, name);
	to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	if (from < 0 || to < 0)
		fail_msg("%s: %s", name, strerror(errno));
	while ((n = read(from, data, sizeof(data))) > 0)
		assert_int_equal(write(to, data, (size_t)n), n);
	close(from);
	close(to);
}

static inline void start(struct broker *b)
{
	int sockets[2];

	assert_int_equal(ds_message_socketpair(sockets), 0);
	b->loader = fork();
	if (b->loader == 0) {
		dup2(sockets[1], 3);
		close_range(4, ~0u, 0);
		execl("helpers/ds-loader", "ds-loader", "--plugin-dir", b->plugin_dir, "--plugin", "backend-cpu",
		      "--plugin", "format-safetensors", "--plugin", "dialect-deepseek", NULL);
		_exit(127);
	}
	close(sockets[1]);
	b->socket = sockets[0];
}

static inline int setup(void **state)
{
	struct broker *b = calloc(1, sizeof(*b));

	*state = b;
	snprintf(b->plugin_dir, sizeof(b->plugin_dir), "/tmp/test-loader-XXXXXX");
	if (!mkdtemp(b->plugin_dir))
		return -1;
	copy_plugin(b, "backend-cpu.so");
	copy_plugin(b, "format-safetensors.so");
	copy_plugin(b, "dialect-deepseek.so");
	start(b);
	return 0;
}

/* The loader's exit status; it is waited for if it did not end yet. */
static inline int finish(struct broker *b)
{
	int status = -1;

	if (b->socket >= 0)
		close(b->socket);
	b->socket = -1;
	if (b->loader > 0)
		waitpid(b->loader, &status, 0);
	b->loader = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline int teardown(void **state)
{
	struct broker *b = *state;
	char path[256];

	finish(b);
	for (unsigned i = 0; i < b->n_files; i++)
		close(b->files[i]);
	snprintf(path, sizeof(path), "%s/backend-cpu.so", b->plugin_dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/format-safetensors.so", b->plugin_dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/dialect-deepseek.so", b->plugin_dir);
	unlink(path);
	rmdir(b->plugin_dir);
	free(b);
	return 0;
}

/* Copy the file @name of a fixture into memory. */
static inline void add_fixture(struct broker *b, const char *fixture, const char *name)
{
	const char *srcdir = getenv("srcdir");
	char path[512], data[65536];
	ds_cleanup(ds_closep) int from = -1;
	int to = memfd_create(name, MFD_CLOEXEC);
	ssize_t n;

	snprintf(path, sizeof(path), "%s/tests/fixtures/%s/%s", srcdir ? srcdir : ".", fixture, name);
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		fail_msg("%s: %s", path, strerror(errno));
	while ((n = read(from, data, sizeof(data))) > 0)
		assert_int_equal(write(to, data, (size_t)n), n);
	b->names[b->n_files] = name;
	b->files[b->n_files++] = to;
}

static inline void add_file(struct broker *b, const char *name)
{
	add_fixture(b, "tiny-v3", name);
}

static inline void add_text(struct broker *b, const char *name, const char *text)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	b->names[b->n_files] = name;
	b->files[b->n_files++] = fd;
}

static inline void add_checkpoint(struct broker *b)
{
	add_file(b, "config.json");
	add_file(b, "model.safetensors");
}

static inline void send_text(struct broker *b, uint16_t type, const char *text, const int *fds, unsigned n_fds)
{
	assert_int_equal(ds_message_send(b->socket, type, 0, text, strlen(text), fds, n_fds), 0);
}

static inline void send_files(struct broker *b)
{
	json_t *names = json_array(), *json = json_pack("{s:o}", "names", names);
	char *text;

	for (unsigned i = 0; i < b->n_files; i++)
		json_array_append_new(names, json_string(b->names[i]));
	text = json_dumps(json, 0);
	send_text(b, DS_MSG_FILES, text, b->files, b->n_files);
	free(text);
	json_decref(json);
}

/* The next message; a minute without one is a failure. */
static inline void receive(struct broker *b, struct ds_message *m)
{
	struct pollfd p = {b->socket, POLLIN, 0};
	struct ds_error err;

	assert_int_equal(poll(&p, 1, 60000), 1);
	if (ds_message_receive(b->socket, m, &err) < 0)
		fail_msg("%s", err.text);
}

static inline struct ds_plan receive_plan(struct broker *b)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	struct ds_plan plan;

	receive(b, &m);
	if (m.type != DS_MSG_PLAN)
		fail_msg("message %u: %s", m.type, (char *)m.data);
	assert_int_equal(m.size, sizeof(plan));
	memcpy(&plan, m.data, sizeof(plan));
	return plan;
}

/* The loader says FAILED with @code and a sentence that has @part, and exits with 1. */
static inline void assert_failed(struct broker *b, const char *code, const char *part)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	ds_cleanup(json_decrefp) json_t *json = NULL;

	receive(b, &m);
	assert_int_equal(m.type, DS_MSG_FAILED);
	json = json_loads((char *)m.data, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "code")), code);
	if (!strstr(json_string_value(json_object_get(json, "message")), part))
		fail_msg("%s", (char *)m.data);
	assert_int_equal(finish(b), 1);
}

static inline int new_memory(uint64_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

/* Send GO and wait for LOADED; the image is returned, and *@loaded what was said of it. */
static inline struct ds_image *go(struct broker *b, uint64_t size, json_t **loaded)
{
	ds_cleanup(ds_closep) int fd = new_memory(size);
	struct ds_image *image = NULL;
	struct ds_progress progress = {0, 0};
	struct ds_error err;

	send_text(b, DS_MSG_GO, "", &fd, 1);
	for (;;) {
		ds_cleanup(ds_message_deinit) struct ds_message m = {0};

		receive(b, &m);
		if (m.type == DS_MSG_PROGRESS) {
			uint64_t before = progress.done;

			memcpy(&progress, m.data, sizeof(progress));
			assert_true(progress.done > before && progress.total == size);
			continue;
		}
		assert_int_equal(m.type, DS_MSG_LOADED);
		*loaded = json_loads((char *)m.data, 0, NULL);
		break;
	}
	assert_int_equal(progress.done, size);
	assert_int_equal(finish(b), 0);
	if (ds_image_open(&image, fd, false, &err) < 0)
		fail_msg("%s", err.text);
	return image;
}

/* A tensor of the checkpoint, as the file has it. */
struct stored {
	const uint16_t *words; /* BF16 */
	uint64_t rows, cols;
};

struct safetensors {
	char *data;
	size_t size;
	json_t *header;
};

static inline void safetensors_deinit(struct safetensors *s)
{
	munmap(s->data, s->size);
	json_decref(s->header);
}

static inline struct safetensors read_safetensors(int fd)
{
	struct safetensors s = {.size = (size_t)lseek(fd, 0, SEEK_END)};
	uint64_t n;

	s.data = mmap(NULL, s.size, PROT_READ, MAP_SHARED, fd, 0);
	memcpy(&n, s.data, sizeof(n));
	s.header = json_loadb(s.data + 8, n, 0, NULL);
	return s;
}

static inline struct stored find(const struct safetensors *s, const char *name)
{
	const json_t *t = json_object_get(s->header, name), *shape = json_object_get(t, "shape");
	uint64_t n, offset = (uint64_t)json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 0));
	bool flat = json_array_size(shape) == 1;

	assert_string_equal(json_string_value(json_object_get(t, "dtype")), "BF16");
	memcpy(&n, s->data, sizeof(n));
	return (struct stored){
		.words = (const uint16_t *)(const void *)(s->data + 8 + n + offset),
		.rows = flat ? 1 : (uint64_t)json_integer_value(json_array_get(shape, 0)),
		.cols = (uint64_t)json_integer_value(json_array_get(shape, flat ? 0 : 1)),
	};
}

static inline const void *in_image(const struct ds_image *image, const char *name, enum ds_dtype dtype, uint64_t count)
{
	const struct ds_image_tensor *t = ds_image_tensor(image, name);
	uint64_t size;

	assert_non_null(t);
	assert_int_equal(t->dtype, dtype);
	assert_int_equal(t->layout, 0);
	assert_int_equal(t->size, count * ds_dtype_size(dtype));
	return (const char *)ds_image_data(image, &size) + t->offset;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* test-loader.c - plays the broker to the real ds-loader with the real plugins, and reads the image it fills.
 *
 * Runs in the build folder. Files are copies in memory, so that a test may spoil them. */
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

static void copy_plugin(const struct broker *b, const char *name)
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

static void start(struct broker *b)
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

static int setup(void **state)
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
static int finish(struct broker *b)
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

static int teardown(void **state)
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
static void add_fixture(struct broker *b, const char *fixture, const char *name)
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

static void add_file(struct broker *b, const char *name)
{
	add_fixture(b, "tiny-v3", name);
}

static void add_text(struct broker *b, const char *name, const char *text)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	b->names[b->n_files] = name;
	b->files[b->n_files++] = fd;
}

static void add_checkpoint(struct broker *b)
{
	add_file(b, "config.json");
	add_file(b, "model.safetensors");
}

static void send_text(struct broker *b, uint16_t type, const char *text, const int *fds, unsigned n_fds)
{
	assert_int_equal(ds_message_send(b->socket, type, 0, text, strlen(text), fds, n_fds), 0);
}

static void send_files(struct broker *b)
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
static void receive(struct broker *b, struct ds_message *m)
{
	struct pollfd p = {b->socket, POLLIN, 0};
	struct ds_error err;

	assert_int_equal(poll(&p, 1, 60000), 1);
	if (ds_message_receive(b->socket, m, &err) < 0)
		fail_msg("%s", err.text);
}

static struct ds_plan receive_plan(struct broker *b)
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
static void assert_failed(struct broker *b, const char *code, const char *part)
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

static int new_memory(uint64_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

/* Send GO and wait for LOADED; the image is returned, and *@loaded what was said of it. */
static struct ds_image *go(struct broker *b, uint64_t size, json_t **loaded)
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

static void safetensors_deinit(struct safetensors *s)
{
	munmap(s->data, s->size);
	json_decref(s->header);
}

static struct safetensors read_safetensors(int fd)
{
	struct safetensors s = {.size = (size_t)lseek(fd, 0, SEEK_END)};
	uint64_t n;

	s.data = mmap(NULL, s.size, PROT_READ, MAP_SHARED, fd, 0);
	memcpy(&n, s.data, sizeof(n));
	s.header = json_loadb(s.data + 8, n, 0, NULL);
	return s;
}

static struct stored find(const struct safetensors *s, const char *name)
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

static const void *in_image(const struct ds_image *image, const char *name, enum ds_dtype dtype, uint64_t count)
{
	const struct ds_image_tensor *t = ds_image_tensor(image, name);
	uint64_t size;

	assert_non_null(t);
	assert_int_equal(t->dtype, dtype);
	assert_int_equal(t->layout, 0);
	assert_int_equal(t->size, count * ds_dtype_size(dtype));
	return (const char *)ds_image_data(image, &size) + t->offset;
}

static void a_checkpoint_becomes_an_image(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const struct ds_hparams *h;
	struct ds_plan plan;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	plan = receive_plan(b);
	image = go(b, plan.image_size, &loaded);
	h = ds_image_hparams(image);
	assert_int_equal(plan.kv_size_per_token, (h->kv_lora + h->qk_rope) * h->n_layers * 4);
	assert_true(plan.weights_size < plan.image_size && plan.scratch_size > 0);
	assert_int_equal(plan.mapped_size, 0);
	assert_int_equal(plan.context, h->context);
	assert_string_equal(h->architecture, "deepseek");
	assert_string_equal(json_string_value(json_object_get(loaded, "architecture")), "deepseek");
	assert_string_equal(json_string_value(json_object_get(loaded, "dialect")), ds_image_dialect(image));
	assert_string_equal(json_string_value(json_object_get(loaded, "backend")), "cpu");
	assert_true(json_is_false(json_object_get(loaded, "tokenizer")));
	assert_null(ds_image_vocabulary(image));
	assert_int_equal(json_integer_value(json_object_get(loaded, "context")), h->context);
	assert_int_equal(json_integer_value(json_object_get(loaded, "vocab")), 512);
	assert_int_equal(json_integer_value(json_object_get(loaded, "parameters")), 1276112);
}

static void every_kind_of_tensor_is_where_the_engine_looks(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	ds_cleanup(safetensors_deinit) struct safetensors file = {0};
	const struct ds_hparams *h;
	struct stored stored;
	const uint16_t *words;
	const float *floats;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	image = go(b, receive_plan(b).image_size, &loaded);
	file = read_safetensors(b->files[1]);
	h = ds_image_hparams(image);

	/* as it is */
	stored = find(&file, "model.embed_tokens.weight");
	words = in_image(image, "token_embedding", DS_DTYPE_BF16, stored.rows * stored.cols);
	assert_memory_equal(words, stored.words, stored.rows * stored.cols * 2);
	/* widened */
	stored = find(&file, "model.layers.1.input_layernorm.weight");
	floats = in_image(image, "layers.1.attention_norm", DS_DTYPE_F32, stored.cols);
	for (uint64_t i = 0; i < stored.cols; i++)
		assert_true(floats[i] == ds_bf16_to_f32(stored.words[i]));
	/* cut into heads: the keys' half turned, the values' half as it is */
	stored = find(&file, "model.layers.0.self_attn.kv_b_proj.weight");
	assert_int_equal(stored.rows, h->n_heads * (h->qk_nope + h->v_head));
	words = in_image(image, "layers.0.k_b", DS_DTYPE_BF16, (uint64_t)h->n_heads * h->kv_lora * h->qk_nope);
	for (uint32_t head = 0; head < h->n_heads; head++)
		for (uint32_t r = 0; r < h->kv_lora; r++)
			for (uint32_t k = 0; k < h->qk_nope; k++)
				assert_int_equal(*words++,
						 stored.words[(head * (h->qk_nope + h->v_head) + k) * h->kv_lora + r]);
	words = in_image(image, "layers.0.v_b", DS_DTYPE_BF16, (uint64_t)h->n_heads * h->v_head * h->kv_lora);
	for (uint32_t head = 0; head < h->n_heads; head++, words += h->v_head * h->kv_lora)
		assert_memory_equal(words, stored.words + (head * (h->qk_nope + h->v_head) + h->qk_nope) * h->kv_lora,
				    h->v_head * h->kv_lora * 2);
	/* stacked */
	words = in_image(image, "layers.2.experts_down", DS_DTYPE_BF16, (uint64_t)h->n_experts * h->hidden * h->moe_ff);
	for (uint32_t e = 0; e < h->n_experts; e++) {
		char name[96];

		snprintf(name, sizeof(name), "model.layers.2.mlp.experts.%u.down_proj.weight", e);
		stored = find(&file, name);
		assert_memory_equal(words, stored.words, h->hidden * h->moe_ff * 2);
		words += h->hidden * h->moe_ff;
	}
}

static void files_may_come_in_several_messages(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"model.safetensors\"]}", &b->files[1], 1);
	send_text(b, DS_MSG_FILES, "{\"names\": []}", NULL, 0);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", &b->files[0], 1);
	send_text(b, DS_MSG_LOAD, "{}", NULL, 0);
	assert_true(receive_plan(b).image_size > 0);
}

static void a_dialect_and_a_type_can_be_asked_for(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const struct ds_hparams *h;
	struct ds_plan plan;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"bf16\", \"dialect\": \"deepseek-r1\", \"backend\": \"cpu\"}", NULL, 0);
	plan = receive_plan(b);
	image = go(b, plan.image_size, &loaded);
	h = ds_image_hparams(image);
	assert_int_equal(plan.kv_size_per_token, (h->kv_lora + h->qk_rope) * h->n_layers * 2);
	assert_string_equal(ds_image_dialect(image), "deepseek-r1");
	assert_string_equal(json_string_value(json_object_get(loaded, "dialect")), "deepseek-r1");
}

static void a_dialect_there_is_not_is_refused_with_those_there_are(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"dialect\": \"mine\"}", NULL, 0);
	assert_failed(b, "no_plugin", "no dialect \"mine\" (there is: deepseek-v2, deepseek-v3, ");
}

/* Another loader, without files. */
static void restart(struct broker *b)
{
	finish(b);
	while (b->n_files > 0)
		close(b->files[--b->n_files]);
	start(b);
}

/* A tokenizer.json of two tokens, without which a checkpoint's template is not asked for. */
#define TOKENIZER                                                                                                      \
	"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []},"                                  \
	" \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}}"

static void a_dialect_is_recognized_by_the_chat_template(void **state)
{
	static const struct {
		const char *template, *dialect;
	} cases[] = {
		{"{{'<\uff5cUser\uff5c>' + content}}{{'<\uff5cAssistant\uff5c><think>\\n'}}", "deepseek-r1"},
		{"{{'<|im_start|>user' + content}}", ""},
	};

	for (size_t i = 0; i < DS_ARRAY_SIZE(cases); i++) {
		struct broker *b = *state;
		ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
		ds_cleanup(json_decrefp) json_t *loaded = NULL;

		if (i > 0)
			restart(b);
		add_checkpoint(b);
		add_text(b, "tokenizer.json", TOKENIZER);
		add_text(b, "chat_template.jinja", cases[i].template);
		send_files(b);
		send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
		image = go(b, receive_plan(b).image_size, &loaded);
		assert_string_equal(ds_image_dialect(image), cases[i].dialect);
	}
}

static void a_cache_of_grouped_queries_holds_keys_and_values(void **state)
{
	struct broker *b = *state;

	add_fixture(b, "tiny-llama3", "config.json");
	add_fixture(b, "tiny-llama3", "model.safetensors");
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	/* 4 layers of 2 key heads of 16, keys and values, F32 */
	assert_int_equal(receive_plan(b).kv_size_per_token, 4 * 2 * 16 * 2 * 4);
}

/* Only what has to be another way than in the file is copied; the answer names the file. */
static void a_mapped_model_stays_in_its_file(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	ds_cleanup(json_decrefp) json_t *loaded = NULL;
	const void *const *matrices;
	struct ds_plan plan;
	const json_t *names;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"residency\": \"mapped\"}", NULL, 0);
	plan = receive_plan(b);
	assert_true(plan.mapped_size > 2000000 && plan.mapped_size < plan.weights_size);
	assert_true(plan.image_size >= plan.weights_size - plan.mapped_size && plan.image_size < 500000);
	image = go(b, plan.image_size, &loaded);
	names = json_object_get(loaded, "files");
	assert_int_equal(json_array_size(names), 1);
	assert_string_equal(json_string_value(json_array_get(names, 0)), "model.safetensors");
	assert_int_equal(ds_image_map_files(image, &b->files[1], 1, NULL), 0);
	assert_int_equal(ds_image_tensor(image, "token_embedding")->n_places, 1);
	assert_int_equal(ds_image_tensor(image, "layers.0.k_b")->n_places, 0);
	assert_int_equal(ds_image_tensor(image, "layers.0.attention_norm")->n_places, 0);
	assert_non_null(ds_image_tensor_data(image, ds_image_tensor(image, "layers.2.experts_up"), &matrices));
	assert_non_null(matrices);
}

static void a_truncated_checkpoint_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	assert_int_equal(ftruncate(b->files[1], 2000000), 0);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(b, "invalid_model", "model.safetensors");
}

static void a_checkpoint_cut_while_it_is_read_is_told(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size);
	assert_int_equal(ftruncate(b->files[1], 2000000), 0);
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_failed(b, "unreadable_model", "model.safetensors: the file changed while tensor ");
}

static void files_of_no_known_format_are_refused(void **state)
{
	struct broker *b = *state;

	add_file(b, "README.txt");
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(b, "unsupported_model", "README.txt");
}

static void a_model_of_no_files_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, LOAD, NULL, 0);
	assert_failed(*state, "unsupported_model", "0 files");
}

static void a_backend_that_is_not_there_is_named(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"backend\": \"abacus\"}", NULL, 0);
	assert_failed(b, "no_plugin", "no backend \"abacus\" (there is: cpu)");
}

/* Messages that no broker sends: each ends the loader, which says why. */

static void memory_before_the_plan_is_refused(void **state)
{
	ds_cleanup(ds_closep) int fd = new_memory(4096);

	send_text(*state, DS_MSG_GO, "", &fd, 1);
	assert_failed(*state, "internal", "message 3 is not expected now");
}

static void files_after_the_plan_are_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	receive_plan(b);
	send_text(b, DS_MSG_FILES, "{\"names\": []}", NULL, 0);
	assert_failed(b, "internal", "message 1 is not expected now");
}

static void an_engine_message_is_refused(void **state)
{
	send_text(*state, DS_MSG_PING, "12345678", NULL, 0);
	assert_failed(*state, "internal", "message 37 is not expected now");
}

static void memory_of_another_size_is_refused(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size - 1);
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_failed(b, "internal", "GO comes without memory of");
}

static void names_and_descriptors_have_to_agree(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", b->files, 2);
	assert_failed(b, "internal", "FILES has 1 names and 2 descriptors");
}

static void a_path_is_no_name(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"../config.json\"]}", b->files, 1);
	assert_failed(b, "internal", "\"../config.json\" is not a base name");
}

static void a_name_comes_once(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"a\", \"a\"]}", b->files, 2);
	assert_failed(b, "internal", "a comes twice");
}

static void a_pipe_is_no_file(void **state)
{
	struct broker *b = *state;
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	send_text(b, DS_MSG_FILES, "{\"names\": [\"config.json\"]}", pipes, 1);
	assert_failed(b, "invalid_model", "config.json is not a regular file");
	close(pipes[0]);
	close(pipes[1]);
}

static void what_is_not_json_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, "backend", NULL, 0);
	assert_failed(*state, "internal", "LOAD is not a JSON object");
}

static void a_text_with_a_nul_is_refused(void **state)
{
	send_text(*state, DS_MSG_LOAD, "{\"backend\": \"cpu\\u0000 or not\"}", NULL, 0);
	assert_failed(*state, "internal", "LOAD is not a JSON object: \\u0000 is not allowed");
}

static void values_nobody_knows_are_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"q8\"}", NULL, 0);
	assert_failed(b, "internal", "LOAD: kv_type \"q8\" is not f32, f16, bf16 or q8_0");
}

static void a_residency_nobody_knows_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"residency\": \"elsewhere\"}", NULL, 0);
	assert_failed(b, "internal", "LOAD: residency \"elsewhere\" is not resident or mapped");
}

static void exact_keeps_its_cache_in_32_bits(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"precision\": \"exact\", \"kv_type\": \"bf16\"}", NULL, 0);
	assert_int_equal(receive_plan(b).kv_size_per_token, 1600);
}

static void a_cache_whose_blocks_do_not_fit_is_refused(void **state)
{
	struct broker *b = *state;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, "{\"kv_type\": \"q8_0\"}", NULL, 0);
	assert_failed(b, "unsupported_model",
		      "kv_type q8_0 has blocks of 32, which the heads of this model do not fill; bf16 is for all");
}

static void a_loader_whose_broker_is_gone_ends(void **state)
{
	assert_int_equal(finish(*state), 1);
}

static void a_loader_whose_broker_goes_while_it_fills_ends(void **state)
{
	struct broker *b = *state;
	ds_cleanup(ds_closep) int fd = -1;

	add_checkpoint(b);
	send_files(b);
	send_text(b, DS_MSG_LOAD, LOAD, NULL, 0);
	fd = new_memory(receive_plan(b).image_size);
	shutdown(b->socket, SHUT_RD); /* nobody hears what it says from here on, however fast it is */
	send_text(b, DS_MSG_GO, "", &fd, 1);
	assert_int_equal(finish(b), 1);
}

/* Run ds-loader with @arguments, without a socket; its standard output goes to @out. */
static int run(const char *arguments, char *out, size_t size)
{
	char command[256];
	FILE *pipe;
	size_t n;

	snprintf(command, sizeof(command), "helpers/ds-loader %s 2>&1 3<&-", arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	n = fread(out, 1, size - 1, pipe);
	out[n] = 0;
	return WEXITSTATUS(pclose(pipe));
}

static void plugins_are_described_without_a_broker(void **state)
{
	struct broker *b = *state;
	ds_cleanup(json_decrefp) json_t *json = NULL;
	char arguments[192], out[32768];
	const json_t *d;

	snprintf(arguments, sizeof(arguments),
		 "--describe-plugins --plugin-dir %s --plugin backend-cpu --plugin format-safetensors --plugin nothing",
		 b->plugin_dir);
	assert_int_equal(run(arguments, out, sizeof(out)), 0);
	json = json_loads(out, 0, NULL);
	assert_int_equal(json_array_size(json), 3);
	for (unsigned i = 0; i < 2; i++) {
		d = json_array_get(json, i);
		assert_string_equal(json_string_value(json_object_get(d, "state")), "ok");
		assert_true(json_integer_value(json_object_get(d, "vectors")) > 0);
		assert_int_equal(json_integer_value(json_object_get(d, "vectors")),
				 json_integer_value(json_object_get(d, "vectors_passed")));
	}
	d = json_array_get(json, 2);
	assert_string_equal(json_string_value(json_object_get(d, "reason")), "nothing.so: No such file or directory");
}

static void a_person_who_starts_it_by_hand_is_told(void **state)
{
	char out[1024];

	assert_int_equal(run("--plugin-dir .", out, sizeof(out)), 1);
	assert_string_equal(out, "<3>ds-loader: descriptor 3 is not the broker's socket\n");
	assert_int_equal(run("", out, sizeof(out)), 2);
	assert_non_null(strstr(out, "usage: ds-loader"));
	assert_int_equal(run("--version", out, sizeof(out)), 0);
	assert_string_equal(out, "ds-loader " PACKAGE_VERSION "\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_checkpoint_becomes_an_image),
		TEST(every_kind_of_tensor_is_where_the_engine_looks),
		TEST(files_may_come_in_several_messages),
		TEST(a_dialect_and_a_type_can_be_asked_for),
		TEST(a_cache_of_grouped_queries_holds_keys_and_values),
		TEST(a_mapped_model_stays_in_its_file),
		TEST(a_dialect_there_is_not_is_refused_with_those_there_are),
		TEST(a_dialect_is_recognized_by_the_chat_template),
		TEST(a_truncated_checkpoint_is_refused),
		TEST(a_checkpoint_cut_while_it_is_read_is_told),
		TEST(files_of_no_known_format_are_refused),
		TEST(a_model_of_no_files_is_refused),
		TEST(a_backend_that_is_not_there_is_named),
		TEST(memory_before_the_plan_is_refused),
		TEST(files_after_the_plan_are_refused),
		TEST(an_engine_message_is_refused),
		TEST(memory_of_another_size_is_refused),
		TEST(names_and_descriptors_have_to_agree),
		TEST(a_path_is_no_name),
		TEST(a_name_comes_once),
		TEST(a_pipe_is_no_file),
		TEST(what_is_not_json_is_refused),
		TEST(a_text_with_a_nul_is_refused),
		TEST(values_nobody_knows_are_refused),
		TEST(a_residency_nobody_knows_is_refused),
		TEST(exact_keeps_its_cache_in_32_bits),
		TEST(a_cache_whose_blocks_do_not_fit_is_refused),
		TEST(a_loader_whose_broker_is_gone_ends),
		TEST(a_loader_whose_broker_goes_while_it_fills_ends),
		TEST(plugins_are_described_without_a_broker),
		TEST(a_person_who_starts_it_by_hand_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

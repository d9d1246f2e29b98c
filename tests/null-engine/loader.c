/* loader.c - the null ds-loader: a tiny image of nothing, after doing what null.json says.
 *
 *   {"weights": N, "kv": N, "scratch": N, "context": N}  the numbers of its plan
 *   {"delay_ms": N}      time between plan and the end of writing
 *   {"fill": true}       all of the image is written, and so takes memory
 *   {"fail": TEXT}       FAILED with this sentence
 *   {"linger": true}     after FAILED or LOADED it does not exit
 *   {"exit": N}          exits with N instead of finishing
 *   {"files": [NAME]}    says that the image is mapped from these
 *   {"breach": true}     sends a message that belongs to nobody */
#include "null.h"

#include <sys/stat.h>
#include <sys/syscall.h>

static const char catalog[] =
	"[{\"name\": \"null-sampler\", \"file\": \"null-sampler.so\", \"kind\": \"sampler\", \"version\": \"1\", "
	"\"summary\": \"for tests\", \"state\": \"ok\", \"reason\": \"\", \"entries\": [{\"name\": \"null\", "
	"\"summary\": \"\"}], "
	"\"options\": [{\"name\": \"temperature\", \"type\": \"float\", \"default\": 1, \"min\": 0, \"max\": 2, "
	"\"help\": \"\"}, "
	"{\"name\": \"top_k\", \"type\": \"int\", \"default\": 0, \"min\": 0, \"max\": 1000, \"help\": \"\"}], "
	"\"vectors\": 1, \"vectors_passed\": 1}]";

/* The text of null.json among the files of @m, or "{}". */
static json_t *read_wishes(const struct ds_message *m)
{
	json_t *names = json_loads((const char *)m->data, 0, NULL), *name, *wishes = NULL;
	size_t i;

	json_array_foreach (json_object_get(names, "names"), i, name) {
		char text[4096] = "";

		if (!strcmp(json_string_value(name), "null.json") && pread(m->fds[i], text, sizeof(text) - 1, 0) > 0)
			wishes = json_loads(text, 0, NULL);
	}
	json_decref(names);
	return wishes ? wishes : json_object();
}

static long wish(const json_t *wishes, const char *name, long otherwise)
{
	const json_t *value = json_object_get(wishes, name);

	return value ? (long)json_integer_value(value) : otherwise;
}

static void linger(const json_t *wishes)
{
	while (json_object_get(wishes, "linger"))
		pause();
}

static void expect(struct ds_message *m, uint16_t type)
{
	struct ds_error err;

	ds_message_deinit(m);
	*m = (struct ds_message){0};
	if (ds_message_receive(3, m, &err) < 0 || m->type != type)
		exit(9);
}

static void write_image(int fd, uint64_t size, bool fill, long delay_ms)
{
	static const char block[1 << 20] = "null";
	struct ds_progress progress = {.total = size};

	if (pwrite(fd, "null", 4, 0) != 4)
		exit(9);
	for (uint64_t at = 0; fill && at + sizeof(block) <= size; at += sizeof(block))
		if (pwrite(fd, block, sizeof(block), (off_t)at) != sizeof(block))
			exit(9);
	for (int i = 1; i <= 10; i++) {
		usleep((useconds_t)delay_ms * 100);
		progress.done = size * (uint64_t)i / 10;
		ds_message_send(3, DS_MSG_PROGRESS, 0, &progress, sizeof(progress), NULL, 0);
	}
}

static void decref(json_t **json)
{
	json_decref(*json);
}

int main(int argc, char **argv)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	ds_cleanup(decref) json_t *wishes = NULL;
	struct ds_plan plan;

	if (argc > 1 && !strcmp(argv[1], "--describe-plugins")) {
		puts(catalog);
		return 0;
	}
	expect(&m, DS_MSG_FILES);
	wishes = read_wishes(&m);
	expect(&m, DS_MSG_LOAD);
	if (json_object_get(wishes, "fail")) {
		null_send_json(DS_MSG_FAILED,
			       json_pack("{s:s, s:O}", "code", "internal", "message", json_object_get(wishes, "fail")));
		linger(wishes);
		return 1;
	}
	if (json_object_get(wishes, "breach"))
		ds_message_send(3, DS_MSG_PONG, 0, "x", 1, NULL, 0);
	plan = (struct ds_plan){.weights_size = (uint64_t)wish(wishes, "weights", 4096),
				.kv_size_per_token = (uint64_t)wish(wishes, "kv", 16),
				.scratch_size = (uint64_t)wish(wishes, "scratch", 4096)};
	plan.image_size = plan.weights_size;
	plan.context = (uint64_t)wish(wishes, "context", 1024);
	ds_message_send(3, DS_MSG_PLAN, 0, &plan, sizeof(plan), NULL, 0);
	expect(&m, DS_MSG_GO);
	write_image(m.fds[0], plan.image_size, json_is_true(json_object_get(wishes, "fill")), wish(wishes, "delay_ms", 0));
	if (json_object_get(wishes, "exit"))
		return (int)wish(wishes, "exit", 0);
	null_send_json(DS_MSG_LOADED, json_pack("{s:s, s:s, s:b, s:i, s:i, s:i, s:s, s:O?}", "architecture", "null",
						"dialect", "null", "tokenizer", 1, "parameters", 1, "context",
						(int)plan.context,
						"vocab", NULL_VOCAB, "backend", "null", "files",
						json_object_get(wishes, "files")));
	linger(wishes);
	return 0;
}

/* verb-run.c - dsctl run: one question, its answer on the standard output as it is made.
 *
 * The first word is the model if it names one or is an alias; -m says so without asking. What comes on the standard
 * input, if that is not a terminal, follows the words of the command line. */
#include "answer.h"
#include "output.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define STDIN_MAX (64u << 20)

/* 1 if @word is a model's name or alias, 0 if not. */
static int names_a_model(struct ds_client *client, const char *word, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *answer = NULL;
	const json_t *model, *alias;
	size_t i, j;
	int r;

	r = ds_http_call(client->http, "GET", "/v1/models", NULL, &answer, err);
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(answer, "data"), i, model) {
		const char *id = json_string_value(json_object_get(model, "id"));

		if (id && strcmp(id, word) == 0)
			return 1;
		json_array_foreach (json_object_get(model, "aliases"), j, alias)
			if (json_string_value(alias) && strcmp(json_string_value(alias), word) == 0)
				return 1;
	}
	return 0;
}

static int copy_stdin(FILE *out, struct ds_error *err)
{
	char block[65536];
	size_t total = 0;
	ssize_t n;

	while ((n = read(STDIN_FILENO, block, sizeof(block))) != 0) {
		if (n < 0)
			return ds_fail(err, -errno, "standard input: %s", strerror(errno));
		total += n;
		if (total > STDIN_MAX)
			return ds_fail(err, -EFBIG, "standard input: more than %u MiB", STDIN_MAX >> 20);
		fwrite(block, 1, n, out);
	}
	return 0;
}

/* Whether the standard input carries text for us: a terminal does not, nor does none at all. */
static bool has_stdin(void)
{
	struct stat st;

	return !isatty(STDIN_FILENO) && fstat(STDIN_FILENO, &st) == 0 && !S_ISCHR(st.st_mode);
}

/* The words with spaces between them, an empty line, the standard input without its last newlines. */
static int read_prompt(char *const *words, char **out, size_t *size, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *text = NULL;
	FILE *f = open_memstream(&text, size);
	int r = 0;

	if (!f)
		return ds_fail(err, -ENOMEM, "no memory for the prompt");
	for (size_t i = 0; words[i]; i++)
		fprintf(f, "%s%s", i ? " " : "", words[i]);
	fflush(f);
	if (has_stdin()) {
		long before = ftell(f);

		if (before > 0)
			fputs("\n\n", f);
		r = copy_stdin(f, err);
	}
	fclose(f);
	if (r < 0)
		return r;
	while (*size > 0 && text[*size - 1] == '\n')
		text[--*size] = '\0';
	*out = ds_steal(&text);
	return 0;
}

static void print_line(void *self, const char *type, const char *text, size_t size)
{
	json_t *line = json_pack("{s:s, s:s%}", "type", type, "text", text, size);

	if (line)
		ds_output_json(line, true, NULL);
	json_decref(line);
}

static void on_reasoning(void *self, const char *text, size_t size)
{
	print_line(self, "reasoning", text, size);
}

static void on_content(void *self, const char *text, size_t size)
{
	print_line(self, "content", text, size);
}

/* The last line of --json holds the whole answer. */
static int print_whole(const struct ds_answer *a, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *line =
		json_pack("{s:s, s:s?, s:O, s:O, s:s?, s:O?}", "type", "done", "model", a->model, "content", a->content,
			  "reasoning", a->reasoning, "finish_reason", a->finish_reason, "usage", a->usage);

	if (!line)
		return ds_fail(err, -ENOMEM, "no memory for the answer");
	return ds_output_json(line, true, err);
}

static int ask(struct ds_client *client, const struct ds_answer_options *o, json_t *request, struct ds_error *err)
{
	ds_cleanup(ds_answer_deinit) struct ds_answer answer = {0};
	struct ds_answer_printer printer = {.hide_thinking = o->hide_thinking};
	struct ds_answer_sink sink = ds_answer_printer_sink(&printer);
	int r;

	if (client->json)
		sink = (struct ds_answer_sink){.reasoning = o->hide_thinking ? NULL : on_reasoning,
					       .content = on_content};
	r = ds_answer_fetch(client, request, &sink, &answer, err);
	if (!client->json)
		ds_answer_printer_end(&printer);
	if (r == 0 && client->json)
		return print_whole(&answer, err);
	if (r == 0)
		ds_answer_tell_if_cut(&answer);
	return r;
}

static int run(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct ds_answer_options *o = options;
	ds_cleanup(ds_json_freep) json_t *messages = json_array();
	ds_cleanup(ds_json_freep) json_t *request = NULL;
	ds_cleanup(ds_freep) char *prompt = NULL;
	const char *model = o->model;
	size_t size = 0;
	json_t *message;
	int r;

	if (!model && args[0]) {
		r = names_a_model(client, args[0], err);
		if (r < 0)
			return r;
		model = r ? *args++ : NULL;
	}
	r = read_prompt(args, &prompt, &size, err);
	if (r < 0)
		return r;
	if (memchr(prompt, '\0', size))
		return ds_fail(err, -EINVAL, "the prompt is not text: it has bytes of 0");
	if (size == 0)
		return ds_fail(err, -EINVAL, "there is no prompt: give it as words, or on the standard input");
	if (o->system)
		json_array_append_new(messages, ds_answer_message("system", o->system, strlen(o->system)));
	message = ds_answer_message("user", prompt, size);
	if (!message)
		return ds_fail(err, -EINVAL, "the prompt is not UTF-8 text");
	json_array_append_new(messages, message);
	request = ds_answer_request(o, model, messages);
	if (!request)
		return ds_fail(err, -ENOMEM, "no memory for the request");
	return ask(client, o, request, err);
}

static const struct ds_flag flags[] = {DS_ANSWER_FLAGS, {0}};

const struct ds_verb ds_verb_run = {
	.name = "run",
	.usage = "[MODEL] [PROMPT...]",
	.help = "Ask one question",
	.flags = flags,
	.options_size = sizeof(struct ds_answer_options),
	.max_args = UINT_MAX,
	.run = run,
};

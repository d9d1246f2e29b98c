/* verb-chat.c - dsctl chat: a conversation, one line a turn.
 *
 * On a terminal libedit reads the lines, with a history that lasts as long as the program and is written nowhere.
 * Ctrl-C clears the line or stops the answer, Ctrl-D leaves. What came of a stopped answer stays part of the
 * conversation. */
#include "answer.h"
#include "output.h"

#include <histedit.h>
#include <string.h>

struct chat {
	struct ds_client *client;
	const struct ds_answer_options *options;
	const char *model; /* NULL: the daemon's default */
	json_t *messages;
	EditLine *edit; /* NULL: the standard input is not a terminal */
	History *history;
	bool cleared; /* Ctrl-C was pressed on this line */
	char *line;   /* of getline */
	size_t line_capacity;
};

static int begin(struct chat *chat)
{
	const char *system = chat->options->system;

	json_array_clear(chat->messages);
	if (!system)
		return 0;
	return json_array_append_new(chat->messages, ds_answer_message("system", system, strlen(system)));
}

static int clear(struct chat *chat)
{
	fputs("the conversation begins anew\n", stderr);
	return begin(chat);
}

static int help(struct chat *chat);

static int leave(struct chat *chat)
{
	return 1;
}

/* A positive return ends the conversation. */
static const struct {
	const char *name, *help;
	int (*run)(struct chat *chat);
} commands[] = {
	{"/clear", "forget what was said", clear},
	{"/help", "list these", help},
	{"/exit", "leave, as Ctrl-D does", leave},
};

static int help(struct chat *chat)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(commands); i++)
		fprintf(stderr, "%-8s %s\n", commands[i].name, commands[i].help);
	fputs("Ctrl-C   stop the answer\n", stderr);
	return 0;
}

static char *prompt(EditLine *edit)
{
	static char text[] = ">>> ";

	return text;
}

static unsigned char on_interrupt(EditLine *edit, int key)
{
	struct chat *chat;

	el_get(edit, EL_CLIENTDATA, &chat);
	chat->cleared = true;
	return CC_NEWLINE;
}

static int open_editor(struct chat *chat, struct ds_error *err)
{
	HistEvent event;

	if (!ds_output_is_terminal(stdin))
		return 0;
	chat->edit = el_init("dsctl", stdin, stdout, stderr);
	chat->history = history_init();
	if (!chat->edit || !chat->history)
		return ds_fail(err, -ENOMEM, "no memory for the line editor");
	history(chat->history, &event, H_SETSIZE, 1000);
	history(chat->history, &event, H_SETUNIQUE, 1);
	el_set(chat->edit, EL_CLIENTDATA, chat);
	el_set(chat->edit, EL_PROMPT, prompt);
	el_set(chat->edit, EL_EDITOR, "emacs");
	el_set(chat->edit, EL_HIST, history, chat->history);
	/* The narrow form would copy both strings and lose them. */
	el_wset(chat->edit, EL_ADDFN, L"interrupt", L"clear the line", on_interrupt);
	/* While a line is edited Ctrl-C is a key; while an answer comes it is a signal. */
	el_set(chat->edit, EL_SETTY, "-d", "-isig", NULL);
	el_set(chat->edit, EL_BIND, "^C", "interrupt", NULL);
	el_set(chat->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	return 0;
}

static void close_editor(struct chat *chat)
{
	if (chat->history)
		history_end(chat->history);
	if (chat->edit)
		el_end(chat->edit);
	free(chat->line);
	json_decref(chat->messages);
}

/* The next line without its newline, borrowed until the next call; NULL: the end. */
static const char *read_line(struct chat *chat, size_t *size)
{
	const char *line;
	HistEvent event;
	int n = 0;
	ssize_t r;

	if (!chat->edit) {
		r = getline(&chat->line, &chat->line_capacity, stdin);
		if (r < 0)
			return NULL;
		*size = r - (chat->line[r - 1] == '\n');
		return chat->line;
	}
	do {
		chat->cleared = false;
		/* Before the prompt shows: a Ctrl-D that comes sooner would be the terminal's, and lost. */
		el_set(chat->edit, EL_PREP_TERM, 1);
		line = el_gets(chat->edit, &n);
		if (chat->cleared)
			fputs("\n", stdout);
	} while (chat->cleared);
	if (!line || n <= 0) {
		fputs("\n", stdout);
		return NULL;
	}
	if (strspn(line, " \t\n") < (size_t)n)
		history(chat->history, &event, H_ENTER, line);
	*size = n - (line[n - 1] == '\n');
	return line;
}

static int run_command(struct chat *chat, const char *line, size_t size)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(commands); i++)
		if (strlen(commands[i].name) == size && memcmp(commands[i].name, line, size) == 0)
			return commands[i].run(chat);
	fprintf(stderr, "unknown command %.*s\n", (int)size, line);
	return help(chat);
}

/* @content as it goes back to the daemon, which takes no NUL in a text, though a model may write one. */
static json_t *said_before(const json_t *content)
{
	const char *text = json_string_value(content);
	size_t size = json_string_length(content), n = 0;
	ds_cleanup(ds_freep) char *kept = malloc(size + 1);

	for (size_t i = 0; kept && i < size; i++)
		if (text[i])
			kept[n++] = text[i];
	return kept ? ds_answer_message("assistant", kept, n) : NULL;
}

/* A turn that fails is taken back, so that the next one begins where the last good one ended. */
static int take_turn(struct chat *chat, const char *line, size_t size, struct ds_error *err)
{
	ds_cleanup(ds_answer_deinit) struct ds_answer answer = {0};
	struct ds_answer_printer printer = {.hide_thinking = chat->options->hide_thinking};
	struct ds_answer_sink sink = ds_answer_printer_sink(&printer);
	ds_cleanup(ds_json_freep) json_t *message = ds_answer_message("user", line, size);
	ds_cleanup(ds_json_freep) json_t *request = NULL;
	int r;

	if (!message)
		return ds_fail(err, -EINVAL, "this line is not UTF-8 text");
	json_array_append(chat->messages, message);
	request = ds_answer_request(chat->options, chat->model, chat->messages);
	r = request ? ds_answer_fetch(chat->client, request, &sink, &answer, err)
		    : ds_fail(err, -ENOMEM, "no memory for the request");
	ds_answer_printer_end(&printer);
	if (r == 0)
		ds_answer_tell_if_cut(&answer);
	if (r == 0 || (r == -EINTR && json_string_length(answer.content) > 0))
		json_array_append_new(chat->messages, said_before(answer.content));
	else
		json_array_remove(chat->messages, json_array_size(chat->messages) - 1);
	return r;
}

static int converse(struct chat *chat, struct ds_error *err)
{
	const char *line;
	size_t size;
	int r = begin(chat);

	while (r == 0 && (line = read_line(chat, &size))) {
		if (size == 0 || strspn(line, " \t") >= size)
			continue;
		if (*line == '/') {
			r = run_command(chat, line, size);
			continue;
		}
		r = take_turn(chat, line, size, err);
		if (r == -EINTR)
			fputs("(stopped)\n", stderr);
		else if (r < 0 && chat->edit)
			fprintf(stderr, "dsctl: %s\n", err->text);
		/* A person may say something else; a script is over at its first error. */
		if (chat->edit)
			r = 0;
	}
	return r > 0 ? 0 : r;
}

static int chat(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	const struct ds_answer_options *o = options;
	ds_cleanup(close_editor) struct chat state = {
		.client = client,
		.options = o,
		.model = args[0] ? args[0] : o->model,
		.messages = json_array(),
	};
	int r;

	if (client->json)
		return ds_fail(err, -EINVAL, "chat is for people and has no --json; use dsctl run --json");
	r = open_editor(&state, err);
	if (r < 0)
		return r;
	if (state.edit)
		fputs("Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.\n", stderr);
	return converse(&state, err);
}

static const struct ds_flag flags[] = {DS_ANSWER_FLAGS, {0}};

const struct ds_verb ds_verb_chat = {
	.name = "chat",
	.usage = "[MODEL]",
	.help = "Talk with a model, several turns",
	.flags = flags,
	.options_size = sizeof(struct ds_answer_options),
	.max_args = 1,
	.run = chat,
};

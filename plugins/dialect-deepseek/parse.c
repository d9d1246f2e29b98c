/* parse.c - what a model writes becomes reasoning, content and tool calls, piece by piece as it arrives.
 *
 *   [<think>] \n reasoning \n </think> \n\n content
 *   [<｜tool▁calls▁begin｜>  { <｜tool▁call▁begin｜>  type <｜tool▁sep｜>  name \n ```json \n arguments \n ```
 *    <｜tool▁call▁end｜> }  <｜tool▁calls▁end｜>]
 *
 * Where calls are bare, what comes before the separator is the name and all after it arguments. Models that do not
 * reason may write <think>, which is text then; those whose turns are words begin theirs with a space and have no marks
 * at all.
 *
 * Marks come as special tokens or, where a vocabulary lacks them or does not flag them, as plain text; a call that was
 * opened by a special token is closed only by one, so that arguments may quote the marks. A mark that has no place
 * where it stands is text if it was plain and is dropped if it was a special token: those are never shown.
 *
 * Invariants: only what may still turn out to be a mark, a newline around reasoning or the fence around arguments is
 * held back. The result does not depend on how the output was cut into pieces. Nothing is allocated after open. */
#include "dialect-deepseek.h"

enum mark {
	MARK_THINK,
	MARK_THINK_END,
	MARK_CALLS_BEGIN,
	MARK_CALLS_END,
	MARK_CALL_BEGIN,
	MARK_CALL_END,
	MARK_SEP,
	N_MARKS,
};

/* No mark is the beginning of another, and '<' only ever begins one: what stops matching is text as a whole. */
static const char *const marks[N_MARKS] = {
	[MARK_THINK] = THINK,
	[MARK_THINK_END] = THINK_END,
	[MARK_CALLS_BEGIN] = CALLS_BEGIN,
	[MARK_CALLS_END] = CALLS_END,
	[MARK_CALL_BEGIN] = CALL_BEGIN,
	[MARK_CALL_END] = CALL_END,
	[MARK_SEP] = SEP,
};

/* The order matters: from STATE_TYPE on, the parser is inside a tool call. */
enum state {
	STATE_REASONING,
	STATE_CONTENT, /* also between tool calls, where nothing is expected */
	STATE_TYPE,    /* what kind of tool, "function", or the name: kept until the separator shows that it is one */
	STATE_NAME,
	STATE_FENCE,    /* before the arguments: white space, perhaps ``` */
	STATE_LANGUAGE, /* what the fence says: json */
	STATE_ARGUMENTS,
};

#define MAX_MARK 32    /* bytes of the longest mark, and more */
#define MAX_HEADER 256 /* bytes of a type or name; more is no tool call */
#define MAX_TAIL 32    /* bytes of white space and fence that may end the arguments */
#define FENCE_SIZE 3

struct parser {
	const struct ds_style *style;
	enum state state;
	bool begun;         /* something of this section was written: newlines before it are not part of it */
	bool special_call;  /* the call was opened by a special token */
	bool has_arguments; /* something of them was written */
	size_t n_newlines;  /* newlines at the end of reasoning so far */
	size_t n_backticks; /* of the opening fence */
	size_t n_held;
	size_t n_header;
	size_t n_tail;
	char held[MAX_MARK]; /* the beginning of what may be a mark */
	char header[MAX_HEADER];
	char tail[MAX_TAIL]; /* the end of the arguments so far, should it be the closing fence */
};

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_in_call(const struct parser *parser)
{
	return parser->state >= STATE_TYPE;
}

static void write_out(const struct ds_output_writer *writer, enum ds_output kind, const char *text, size_t n)
{
	if (n > 0)
		writer->write(writer->self, kind, text, n);
}

static void begin_section(struct parser *parser, enum state state)
{
	parser->state = state;
	parser->begun = false;
	parser->n_newlines = 0;
}

/* Newlines before a section are skipped, those at the end of reasoning are counted until something follows. */
static void take_section(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	static const char newlines[16] = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";
	enum ds_output kind = parser->state == STATE_REASONING ? DS_OUTPUT_REASONING : DS_OUTPUT_CONTENT;
	size_t n_last = 0;

	if (parser->style->words && !parser->begun && n > 0 && *text == ' ') {
		text++, n--; /* the one after "Assistant:" */
		parser->begun = true;
	}
	while (!parser->style->words && !parser->begun && n > 0 && *text == '\n')
		text++, n--;
	while (parser->state == STATE_REASONING && n_last < n && text[n - 1 - n_last] == '\n')
		n_last++;
	if (n > n_last) {
		for (size_t part; parser->n_newlines > 0; parser->n_newlines -= part) {
			part = parser->n_newlines < sizeof(newlines) ? parser->n_newlines : sizeof(newlines);
			write_out(writer, kind, newlines, part);
		}
		write_out(writer, kind, text, n - n_last);
		parser->begun = true;
	}
	parser->n_newlines += n_last;
}

/* What looked like the head of a call is none: show it. */
static void spill_header(struct parser *parser, const struct ds_output_writer *writer)
{
	begin_section(parser, STATE_CONTENT);
	take_section(parser, writer, parser->header, parser->n_header);
	parser->n_header = 0;
}

/* Append to the header. False: it does not fit, was spilled, and @text is content too. */
static bool take_header(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	if (n <= MAX_HEADER - parser->n_header) {
		memcpy(parser->header + parser->n_header, text, n);
		parser->n_header += n;
		return true;
	}
	spill_header(parser, writer);
	take_section(parser, writer, text, n);
	return false;
}

static void begin_arguments(struct parser *parser, const struct ds_output_writer *writer)
{
	write_out(writer, DS_OUTPUT_TOOL_NAME, parser->header, parser->n_header);
	parser->state = STATE_FENCE;
	parser->n_header = parser->n_backticks = parser->n_tail = 0;
	parser->has_arguments = false;
}

/* The name ends at white space, or where a fence or the arguments begin. Returns the bytes consumed. */
static size_t take_name(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	size_t n_skipped = 0, n_name;

	while (parser->n_header == 0 && n_skipped < n && is_space(text[n_skipped]))
		n_skipped++;
	n_name = n_skipped;
	while (n_name < n && !is_space(text[n_name]) && text[n_name] != '`' && text[n_name] != '{')
		n_name++;
	if (!take_header(parser, writer, text + n_skipped, n_name - n_skipped) || n_name == n)
		return n_name;
	if (parser->n_header == 0)
		begin_section(parser, STATE_CONTENT); /* arguments without a name are no call */
	else
		begin_arguments(parser, writer);
	return n_name;
}

/* Skip white space and an opening fence. Returns the bytes consumed. */
static size_t take_fence(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	size_t i = 0;

	while (i < n && parser->n_backticks == 0 && is_space(text[i]))
		i++;
	while (i < n && parser->n_backticks < FENCE_SIZE && text[i] == '`')
		parser->n_backticks++, i++;
	if (parser->n_backticks == FENCE_SIZE) {
		parser->state = STATE_LANGUAGE;
	} else if (i < n) {
		parser->state = STATE_ARGUMENTS;
		parser->has_arguments = parser->n_backticks > 0;
		write_out(writer, DS_OUTPUT_TOOL_ARGUMENTS, "``", parser->n_backticks);
	}
	return i;
}

static size_t take_language(struct parser *parser, const char *text, size_t n)
{
	size_t i = 0;

	while (i < n && text[i] != '\n' && text[i] != '{' && text[i] != '[')
		i++;
	if (i < n)
		parser->state = STATE_ARGUMENTS;
	return i;
}

static void write_arguments(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	write_out(writer, DS_OUTPUT_TOOL_ARGUMENTS, text, n);
	parser->has_arguments = parser->has_arguments || n > 0;
}

/* How many backticks the tail has. */
static size_t tail_backticks(const struct parser *parser)
{
	size_t n = 0;

	for (size_t i = 0; i < parser->n_tail; i++)
		n += parser->tail[i] == '`';
	return n;
}

/* Does @c keep the tail in the shape: white space, up to three backticks, white space? */
static bool extends_tail(const struct parser *parser, char c)
{
	size_t n_backticks = tail_backticks(parser);

	if (parser->n_tail == MAX_TAIL)
		return false;
	if (c != '`')
		return is_space(c);
	return n_backticks == 0 || (n_backticks < FENCE_SIZE && parser->tail[parser->n_tail - 1] == '`');
}

/* Pass the arguments on, but for white space before them and what may be the closing fence after them. While bytes of
 * @text wait to be passed on the tail is empty, so that the order is kept. */
static void take_arguments(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	size_t begin = 0;

	for (size_t i = 0; i < n; i++) {
		if (!parser->has_arguments && parser->n_tail == 0 && begin == i && is_space(text[i])) {
			begin++;
			continue;
		}
		if (parser->n_tail > 0 && !extends_tail(parser, text[i])) {
			write_arguments(parser, writer, parser->tail, parser->n_tail);
			parser->n_tail = 0;
		}
		if (extends_tail(parser, text[i])) {
			write_arguments(parser, writer, text + begin, i - begin);
			parser->tail[parser->n_tail++] = text[i];
			begin = i + 1;
		}
	}
	write_arguments(parser, writer, text + begin, n - begin);
}

/* Text that is no mark, for whatever the parser is in. */
static void take(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	while (n > 0) {
		size_t n_taken = n;

		switch (parser->state) {
		case STATE_REASONING:
		case STATE_CONTENT:
			take_section(parser, writer, text, n);
			break;
		case STATE_TYPE:
			take_header(parser, writer, text, n);
			break;
		case STATE_NAME:
			n_taken = take_name(parser, writer, text, n);
			break;
		case STATE_FENCE:
			n_taken = take_fence(parser, writer, text, n);
			break;
		case STATE_LANGUAGE:
			n_taken = take_language(parser, text, n);
			break;
		case STATE_ARGUMENTS:
			take_arguments(parser, writer, text, n);
			break;
		}
		text += n_taken;
		n -= n_taken;
	}
}

/* The call is over, by its mark or because something else begins. Without arguments it has the empty object. */
static void end_call(struct parser *parser, const struct ds_output_writer *writer)
{
	if (parser->state == STATE_TYPE)
		spill_header(parser, writer);
	if (parser->state == STATE_NAME && parser->n_header > 0)
		begin_arguments(parser, writer);
	if (parser->state >= STATE_FENCE) {
		if (tail_backticks(parser) % FENCE_SIZE != 0)
			write_arguments(parser, writer, parser->tail, parser->n_tail);
		if (!parser->has_arguments)
			write_arguments(parser, writer, "{}", 2);
	}
	begin_section(parser, STATE_CONTENT);
}

/* What came before it was the kind of the tool, or the name without the white space around it. */
static void take_separator(struct parser *parser, const struct ds_output_writer *writer)
{
	size_t n_skipped = 0;

	if (!parser->style->bare_calls) {
		parser->state = STATE_NAME;
		parser->n_header = 0;
		return;
	}
	while (parser->n_header > 0 && is_space(parser->header[parser->n_header - 1]))
		parser->n_header--;
	while (n_skipped < parser->n_header && is_space(parser->header[n_skipped]))
		n_skipped++;
	parser->n_header -= n_skipped;
	memmove(parser->header, parser->header + n_skipped, parser->n_header);
	if (parser->n_header == 0)
		begin_section(parser, STATE_CONTENT); /* arguments without a name are no call */
	else
		begin_arguments(parser, writer);
}

/* Act on a mark. False: it has no place here. */
static bool take_mark(struct parser *parser, const struct ds_output_writer *writer, enum mark mark, bool special)
{
	bool in_call = is_in_call(parser);

	if (in_call && parser->special_call && !special)
		return false;
	switch (mark) {
	case MARK_THINK:
		if (in_call || parser->begun)
			return false;
		begin_section(parser, STATE_REASONING);
		return true;
	case MARK_THINK_END:
		if (in_call || (parser->state == STATE_CONTENT && parser->begun))
			return false;
		begin_section(parser, STATE_CONTENT);
		return true;
	case MARK_CALLS_BEGIN:
	case MARK_CALL_BEGIN:
		if (in_call)
			end_call(parser, writer);
		begin_section(parser, mark == MARK_CALL_BEGIN ? STATE_TYPE : STATE_CONTENT);
		parser->special_call = special;
		parser->n_header = 0;
		return true;
	case MARK_CALL_END:
	case MARK_CALLS_END:
		if (in_call)
			end_call(parser, writer);
		else
			return parser->state == STATE_CONTENT && !parser->begun;
		return true;
	case MARK_SEP:
		if (parser->state != STATE_TYPE)
			return false;
		take_separator(parser, writer);
		return true;
	case N_MARKS:
		break;
	}
	return false;
}

/* The first mark that the style knows. */
static enum mark first_mark(const struct ds_style *style)
{
	return style->words ? N_MARKS : style->reasons ? MARK_THINK : MARK_CALLS_BEGIN;
}

/* The mark that is @text, N_MARKS if none is. */
static enum mark find_mark(const struct parser *parser, const char *text, size_t n)
{
	for (enum mark mark = first_mark(parser->style); mark < N_MARKS; mark++)
		if (strlen(marks[mark]) == n && memcmp(marks[mark], text, n) == 0)
			return mark;
	return N_MARKS;
}

/* Do what is held and @c begin a mark? */
static bool may_be_mark(const struct parser *parser, char c)
{
	if (parser->n_held == 0)
		return c == '<' && first_mark(parser->style) < N_MARKS;
	for (enum mark mark = first_mark(parser->style); mark < N_MARKS; mark++)
		if (strncmp(marks[mark], parser->held, parser->n_held) == 0 && marks[mark][parser->n_held] == c)
			return true;
	return false;
}

static void release_held(struct parser *parser, const struct ds_output_writer *writer, size_t n)
{
	parser->n_held = 0;
	take(parser, writer, parser->held, n);
}

/* Look for marks in plain text. held has what may be one, of which the first @n_before bytes came in earlier pieces;
 * the others still stand in @text, so that they go on with what follows them and no character is cut. */
static void take_plain(struct parser *parser, const struct ds_output_writer *writer, const char *text, size_t n)
{
	size_t n_before = parser->n_held, begin = 0;

	for (size_t i = 0; i < n; i++) {
		enum mark mark;

		if (parser->n_held > 0 && !may_be_mark(parser, text[i])) {
			release_held(parser, writer, n_before);
			n_before = 0;
		}
		if (!may_be_mark(parser, text[i]))
			continue;
		parser->held[parser->n_held++] = text[i];
		mark = find_mark(parser, parser->held, parser->n_held);
		if (mark == N_MARKS)
			continue;
		take(parser, writer, text + begin, i + 1 + n_before - parser->n_held - begin);
		begin = i + 1;
		n_before = 0;
		if (take_mark(parser, writer, mark, false))
			parser->n_held = 0;
		else
			release_held(parser, writer, parser->n_held);
	}
	take(parser, writer, text + begin, n + n_before - parser->n_held - begin);
}

void ds_deepseek_parser_feed(void *self, const char *text, size_t text_size, bool special,
			     const struct ds_output_writer *writer)
{
	struct parser *parser = self;
	enum mark mark;

	if (!special) {
		take_plain(parser, writer, text, text_size);
		return;
	}
	release_held(parser, writer, parser->n_held);
	mark = find_mark(parser, text, text_size);
	if (mark != N_MARKS)
		take_mark(parser, writer, mark, true);
}

void ds_deepseek_parser_finish(void *self, const struct ds_output_writer *writer)
{
	struct parser *parser = self;

	release_held(parser, writer, parser->n_held);
	if (parser->state == STATE_TYPE || parser->state == STATE_NAME)
		spill_header(parser, writer);
	else if (parser->state == STATE_ARGUMENTS && tail_backticks(parser) != FENCE_SIZE)
		write_arguments(parser, writer, parser->tail, parser->n_tail);
	parser->n_tail = 0;
}

int ds_deepseek_parser_open(const struct ds_style *style, void **self, bool thinking, struct ds_error *err)
{
	struct parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return ds_fail(err, -ENOMEM, "no memory for an output parser");
	parser->style = style;
	parser->state = thinking ? STATE_REASONING : STATE_CONTENT;
	*self = parser;
	return 0;
}

void ds_deepseek_parser_close(void *self)
{
	free(self);
}

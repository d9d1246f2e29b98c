/* fuzz-dialect.c - the input is an answer: its first byte says whether it begins inside reasoning, in which style it is
 * written and how it is cut into pieces, bytes 1 to 7 stand for the marks as special tokens, 8 for one that the dialect
 * does not know, the rest is text.
 *
 * However it is cut, the result must be the same; and where nothing looks like a mark, nothing but newlines around the
 * text may be missing from it. */
#include "dialect-deepseek.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_INPUT 4096
#define KINDS 4
#define N_SPECIAL 8

static const char *const specials[N_SPECIAL] = {THINK,      THINK_END, CALLS_BEGIN, CALLS_END,
						CALL_BEGIN, CALL_END,  SEP,         EOS};

extern const struct ds_plugin ds_plugin;

/* One entry for each way of parsing. */
static const struct style {
	const char *name;
	bool reasons, words;
} styles[] = {
	{"deepseek-r1", true, false},
	{"deepseek-v3.1", true, false},
	{"deepseek-v3", false, false},
	{"deepseek-v2", false, true},
};

/* All output of one kind; names and arguments of calls are set apart by newlines, which names never have. */
struct result {
	char text[KINDS][4 * MAX_INPUT];
	size_t size[KINDS];
};

static void append(struct result *result, enum ds_output kind, const char *text, size_t n)
{
	if (n > sizeof(result->text[kind]) - result->size[kind])
		abort();
	memcpy(result->text[kind] + result->size[kind], text, n);
	result->size[kind] += n;
}

static void on_output(void *self, enum ds_output kind, const char *text, size_t n)
{
	if (n == 0 || kind >= KINDS)
		abort();
	if (kind == DS_OUTPUT_TOOL_NAME) {
		append(self, DS_OUTPUT_TOOL_NAME, "\n", 1);
		append(self, DS_OUTPUT_TOOL_ARGUMENTS, "\n", 1);
	}
	append(self, kind, text, n);
}

/* Pieces of @cut bytes, or (0) as long as they can be. */
static void parse(const struct ds_dialect_ops *ops, const uint8_t *data, size_t size, bool thinking, size_t cut,
		  struct result *result)
{
	const struct ds_output_writer writer = {.size = sizeof(writer), .self = result, .write = on_output};
	void *self = NULL;
	size_t n;

	memset(result->size, 0, sizeof(result->size));
	if (ops->open(&self, NULL, thinking, NULL) < 0)
		return;
	for (size_t i = 0; i < size; i += n) {
		n = 1;
		if (data[i] >= 1 && data[i] <= N_SPECIAL) {
			ops->feed(self, specials[data[i] - 1], strlen(specials[data[i] - 1]), true, &writer);
			continue;
		}
		while (i + n < size && n != cut && (data[i + n] < 1 || data[i + n] > N_SPECIAL))
			n++;
		ops->feed(self, (const char *)data + i, n, false, &writer);
	}
	ops->finish(self, &writer);
	ops->close(self);
}

static bool is_plain(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (data[i] == '<' || (data[i] >= 1 && data[i] <= N_SPECIAL))
			return false;
	return true;
}

static void check_plain(const uint8_t *data, size_t size, bool words, bool thinking, const struct result *result)
{
	enum ds_output kind = thinking ? DS_OUTPUT_REASONING : DS_OUTPUT_CONTENT;

	if (words && size > 0 && data[0] == ' ')
		data++, size--;
	while (!words && size > 0 && data[0] == '\n')
		data++, size--;
	while (thinking && size > 0 && data[size - 1] == '\n')
		size--;
	if (result->size[kind] != size || memcmp(result->text[kind], data, size) != 0)
		abort();
}

static const struct ds_dialect_ops *find(const char *name)
{
	const struct ds_entry *e = ds_plugin.entries;

	while (e->name && strcmp(e->name, name) != 0)
		e++;
	if (!e->name)
		abort();
	return e->ops;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result whole, cut;
	const struct style *style;
	const struct ds_dialect_ops *ops;
	bool thinking;

	if (size < 1 || size > MAX_INPUT)
		return 0;
	style = &styles[(data[0] >> 1 & 7) % (sizeof(styles) / sizeof(*styles))];
	ops = find(style->name);
	thinking = style->reasons && (data[0] & 1);
	parse(ops, data + 1, size - 1, thinking, 0, &whole);
	parse(ops, data + 1, size - 1, thinking, (data[0] >> 4) + 1u, &cut);
	for (size_t kind = 0; kind < KINDS; kind++)
		if (whole.size[kind] != cut.size[kind] ||
		    memcmp(whole.text[kind], cut.text[kind], whole.size[kind]) != 0)
			abort();
	if (is_plain(data + 1, size - 1))
		check_plain(data + 1, size - 1, style->words, thinking, &whole);
	return 0;
}

/* vectors-dialect.c - a conversation to its prompt, a model's output to reasoning, content and tool calls, or a chat
 * template to whether it is recognized.
 *
 * Output is fed twice: as the vector cuts it, and one character at a time. Both have to give the same. */
#include "render.h"
#include "vectors-kinds.h"

#include <string.h>

/* Text that grows. A failure to grow is found at the end, by ferror(). */
struct text {
	FILE *stream;
	char *data;
	size_t size;
};

static int text_init(struct text *t, struct ds_error *err)
{
	t->stream = open_memstream(&t->data, &t->size);
	return t->stream ? 0 : ds_fail(err, -ENOMEM, "no memory for a text");
}

static void text_deinit(struct text *t)
{
	if (t->stream)
		fclose(t->stream);
	free(t->data);
	*t = (struct text){NULL, NULL, 0};
}

static json_t *text_json(struct text *t)
{
	return fflush(t->stream) == 0 && !ferror(t->stream) ? json_stringn(t->data, t->size) : NULL;
}

static int render(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	int r = ds_vector_keys(c->input, DS_VECTOR_KEYS("messages", "tools", "thinking"), err);

	return r < 0 ? r : ds_render(c->entry->ops, c->input, got, err);
}

#define MAX_CALLS 16

/* What a parser handed over. */
struct parsed {
	struct text reasoning, content;
	struct text names[MAX_CALLS], arguments[MAX_CALLS];
	unsigned n_calls;
	const char *complaint; /* the first thing that no parser may do */
};

static void parsed_deinit(struct parsed *p)
{
	text_deinit(&p->reasoning);
	text_deinit(&p->content);
	for (unsigned i = 0; i < MAX_CALLS; i++) {
		text_deinit(&p->names[i]);
		text_deinit(&p->arguments[i]);
	}
}

static int parsed_init(struct parsed *p, struct ds_error *err)
{
	int r = text_init(&p->reasoning, err);

	if (r == 0)
		r = text_init(&p->content, err);
	for (unsigned i = 0; r == 0 && i < MAX_CALLS; i++) {
		r = text_init(&p->names[i], err);
		if (r == 0)
			r = text_init(&p->arguments[i], err);
	}
	return r;
}

static void write_output(void *self, enum ds_output kind, const char *text, size_t size)
{
	struct parsed *p = self;
	ds_cleanup(json_decrefp) json_t *valid = json_stringn(text, size);
	struct text *to = NULL;

	if (!valid)
		p->complaint = "a piece of the output is not whole UTF-8 characters";
	if (kind == DS_OUTPUT_TOOL_NAME && p->n_calls < MAX_CALLS)
		to = &p->names[p->n_calls++];
	else if (kind == DS_OUTPUT_TOOL_ARGUMENTS && p->n_calls > 0)
		to = &p->arguments[p->n_calls - 1];
	else if (kind == DS_OUTPUT_REASONING)
		to = &p->reasoning;
	else if (kind == DS_OUTPUT_CONTENT)
		to = &p->content;
	if (to)
		fwrite(text, 1, size, to->stream);
	else
		p->complaint = "arguments came before the name of a tool, or too many tool calls";
}

/* Bytes of the UTF-8 character at @text, which is valid. */
static size_t character_size(const char *text)
{
	size_t n = 1;

	while (((unsigned char)text[n] & 0xc0) == 0x80)
		n++;
	return n;
}

static int feed(const struct ds_dialect_ops *ops, void *self, const json_t *piece, bool cut,
		const struct ds_output_writer *writer, struct ds_error *err)
{
	bool special = json_is_object(piece);
	const json_t *json = special ? json_object_get(piece, "special") : piece;
	const char *text = json_string_value(json);
	size_t left = json_string_length(json);

	if (!text || (special && json_object_size(piece) != 1))
		return ds_fail(err, -EINVAL, "\"output\" is not made of texts and {\"special\": text}");
	if (special || !cut) {
		ops->feed(self, text, left, special, writer);
		return 0;
	}
	while (left > 0) {
		size_t n = character_size(text);

		ops->feed(self, text, n, false, writer);
		text += n;
		left -= n;
	}
	return 0;
}

static json_t *parsed_json(struct parsed *p)
{
	json_t *calls = json_array();

	for (unsigned i = 0; i < p->n_calls; i++)
		json_array_append_new(calls, json_pack("{s:o, s:o}", "name", text_json(&p->names[i]), "arguments",
						       text_json(&p->arguments[i])));
	return json_pack("{s:o, s:o, s:o}", "reasoning", text_json(&p->reasoning), "content", text_json(&p->content),
			 "tool_calls", calls);
}

static int parse(const struct ds_vector_case *c, bool cut, json_t **got, struct ds_error *err)
{
	const struct ds_dialect_ops *ops = c->entry->ops;
	const json_t *pieces = json_object_get(c->input, "output");
	ds_cleanup(parsed_deinit) struct parsed parsed = {.n_calls = 0};
	struct ds_output_writer writer = {sizeof(writer), &parsed, write_output};
	void *self = NULL;
	int r = parsed_init(&parsed, err);

	if (r == 0 && !json_is_array(pieces))
		r = ds_fail(err, -EINVAL, "\"output\" is not an array");
	if (r == 0)
		r = ops->open(&self, c->host, json_is_true(json_object_get(c->input, "thinking")), err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < json_array_size(pieces); i++)
		r = feed(ops, self, json_array_get(pieces, i), cut, &writer, err);
	ops->finish(self, &writer);
	ops->close(self);
	if (r == 0 && parsed.complaint)
		r = ds_fail(err, -EINVAL, "%s", parsed.complaint);
	if (r == 0)
		*got = parsed_json(&parsed);
	return r;
}

static int recognize(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	const struct ds_dialect_ops *ops = c->entry->ops;
	const json_t *added = json_object_get(c->input, "added_tokens");
	ds_cleanup(ds_freep) const char **tokens = calloc(json_array_size(added) + 1, sizeof(*tokens));
	struct ds_habits habits = {sizeof(habits), json_string_value(json_object_get(c->input, "chat_template")), tokens};
	int r = ds_vector_keys(c->input, DS_VECTOR_KEYS("chat_template", "added_tokens"), err);

	if (r < 0)
		return r;
	if (!tokens)
		return ds_fail(err, -ENOMEM, "no memory for added tokens");
	for (size_t i = 0; i < json_array_size(added); i++)
		if (!(tokens[i] = json_string_value(json_array_get(added, i))))
			return ds_fail(err, -EINVAL, "\"added_tokens\" is not made of texts");
	if (!habits.chat_template || !ops->recognizes)
		return ds_fail(err, -EINVAL, habits.chat_template ? "the entry recognizes nothing"
								  : "\"chat_template\" is not a text");
	*got = json_pack("{s:b}", "recognized", ops->recognizes(&habits));
	return 0;
}

int ds_vector_dialect(const struct ds_vector_case *c, json_t **got, struct ds_error *err)
{
	ds_cleanup(json_decrefp) json_t *by_character = NULL;
	int r;

	if (json_object_get(c->input, "chat_template"))
		return recognize(c, got, err);
	if (!json_object_get(c->input, "output"))
		return render(c, got, err);
	r = ds_vector_keys(c->input, DS_VECTOR_KEYS("thinking", "output"), err);
	if (r == 0)
		r = parse(c, false, got, err);
	if (r == 0)
		r = parse(c, true, &by_character, err);
	if (r == 0 && !json_equal(*got, by_character))
		r = ds_fail(err, -EINVAL, "the output parses differently one character at a time");
	return r;
}

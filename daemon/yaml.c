/* yaml.c - libyaml's events to a tree of typed nodes, refusing what a configuration has no use for. */
#include "yaml.h"

#include <math.h>
#include <string.h>
#include <yaml.h>

struct parser {
	yaml_parser_t yaml;
	const char *file;
	const char *text;
	struct ds_problems *problems;
};

static void deinit_parser(struct parser *p)
{
	yaml_parser_delete(&p->yaml);
}

void ds_problems_deinit(struct ds_problems *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->lines[i]);
	free(p->lines);
	p->lines = NULL;
	p->n = 0;
}

static void add_problem(struct ds_problems *p, const char *file, unsigned line, unsigned column, const char *key,
			const char *fmt, va_list args)
{
	char sentence[512], whole[1024], place[32] = "";
	char **lines;

	vsnprintf(sentence, sizeof(sentence), fmt, args);
	if (line)
		snprintf(place, sizeof(place), "%u:%u:", line, column);
	snprintf(whole, sizeof(whole), "%s:%s %s%s%s", file, place, key ? key : "", key ? ": " : "", sentence);
	lines = realloc(p->lines, (p->n + 1) * sizeof(*lines));
	if (!lines)
		return;
	p->lines = lines;
	lines[p->n] = strdup(whole);
	if (lines[p->n])
		p->n++;
}

void ds_problem(struct ds_problems *p, const struct ds_yaml *node, const char *key, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_problem(p, node->file, node->line, node->column, key, fmt, args);
	va_end(args);
}

void ds_problem_key(struct ds_problems *p, const struct ds_yaml *node, const char *key, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_problem(p, node->file, node->key_line, node->key_column, key, fmt, args);
	va_end(args);
}

void ds_problem_at(struct ds_problems *p, const char *file, unsigned line, unsigned column, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_problem(p, file, line, column, NULL, fmt, args);
	va_end(args);
}

const char *ds_yaml_kind_name(enum ds_yaml_kind kind)
{
	static const char *const names[] = {
		[DS_YAML_NULL] = "nothing",   [DS_YAML_BOOL] = "true or false", [DS_YAML_INT] = "a whole number",
		[DS_YAML_FLOAT] = "a number", [DS_YAML_TEXT] = "text",          [DS_YAML_LIST] = "a list",
		[DS_YAML_MAP] = "a map",
	};

	return names[kind];
}

struct ds_yaml *ds_yaml_free(struct ds_yaml *node)
{
	if (!node)
		return NULL;
	for (size_t i = 0; i < node->n; i++)
		ds_yaml_free(node->items[i]);
	free(node->items);
	free(node->text);
	free(node->key);
	free(node);
	return NULL;
}

struct ds_yaml *ds_yaml_get(const struct ds_yaml *map, const char *key)
{
	for (size_t i = 0; i < map->n; i++)
		if (map->items[i]->key && !strcmp(map->items[i]->key, key))
			return map->items[i];
	return NULL;
}

/* Takes ownership of @item, also when it fails. */
static int append(struct ds_yaml *to, struct ds_yaml *item)
{
	struct ds_yaml **items;

	if ((to->n & (to->n - 1)) == 0) { /* room doubles at the powers of two */
		items = reallocarray(to->items, to->n ? to->n * 2 : 1, sizeof(*items));
		if (!items) {
			ds_yaml_free(item);
			return -ENOMEM;
		}
		to->items = items;
	}
	to->items[to->n++] = item;
	return 0;
}

int ds_yaml_merge(struct ds_yaml *lower, struct ds_yaml *upper)
{
	int r = 0;

	for (size_t i = 0; i < upper->n; i++) {
		struct ds_yaml *item = ds_steal(&upper->items[i]), *old = ds_yaml_get(lower, item->key);

		if (old && old->kind == DS_YAML_MAP && item->kind == DS_YAML_MAP) {
			r = ds_yaml_merge(old, item);
		} else if (old) {
			struct ds_yaml swap = *old;

			*old = *item;
			*item = swap;
			ds_yaml_free(item);
		} else {
			r = append(lower, item);
		}
		if (r < 0)
			break;
	}
	ds_yaml_free(upper);
	return r;
}

static const char *digits(const char *p)
{
	while (*p >= '0' && *p <= '9')
		p++;
	return p;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *text)
{
	const char *p = text + (*text == '-' || *text == '+'), *start = p;

	p = digits(p);
	if (*p == '.') {
		const char *fraction = p + 1;

		p = digits(fraction);
		if (p == start + 1)
			return false;
	} else if (p == start) {
		return false;
	}
	if (*p == 'e' || *p == 'E') {
		p += 1 + (p[1] == '-' || p[1] == '+');
		if (digits(p) == p)
			return false;
		p = digits(p);
	}
	return *p == '\0';
}

/* The digits of an integer and its base, or NULL. */
static const char *integer_digits(const char *text, int *base)
{
	const char *p = text;

	*base = 10;
	if (p[0] == '0' && (p[1] == 'o' || p[1] == 'x')) {
		*base = p[1] == 'o' ? 8 : 16;
		p += 2;
		return *p && strspn(p, *base == 8 ? "01234567" : "0123456789abcdefABCDEF") == strlen(p) ? p : NULL;
	}
	p += *p == '-' || *p == '+';
	return *p && *digits(p) == '\0' ? text : NULL;
}

struct word {
	const char *text;
	enum ds_yaml_kind kind;
	bool flag;
	double number;
};

static const struct word words[] = {
	{"", DS_YAML_NULL, false, 0},
	{"~", DS_YAML_NULL, false, 0},
	{"null", DS_YAML_NULL, false, 0},
	{"Null", DS_YAML_NULL, false, 0},
	{"NULL", DS_YAML_NULL, false, 0},
	{"true", DS_YAML_BOOL, true, 0},
	{"True", DS_YAML_BOOL, true, 0},
	{"TRUE", DS_YAML_BOOL, true, 0},
	{"false", DS_YAML_BOOL, false, 0},
	{"False", DS_YAML_BOOL, false, 0},
	{"FALSE", DS_YAML_BOOL, false, 0},
	{".inf", DS_YAML_FLOAT, false, INFINITY},
	{"+.inf", DS_YAML_FLOAT, false, INFINITY},
	{"-.inf", DS_YAML_FLOAT, false, -INFINITY},
	{".nan", DS_YAML_FLOAT, false, NAN},
};

/* What a plain scalar means in the core schema. */
static void resolve(struct ds_yaml *node, struct ds_problems *problems)
{
	int base;

	for (size_t i = 0; i < DS_ARRAY_SIZE(words); i++)
		if (!strcmp(node->text, words[i].text)) {
			node->kind = words[i].kind;
			node->flag = words[i].flag;
			node->number = words[i].number;
			return;
		}
	if (integer_digits(node->text, &base)) {
		node->kind = DS_YAML_INT;
		errno = 0;
		node->integer = strtoll(integer_digits(node->text, &base), NULL, base);
		node->number = (double)node->integer;
		if (errno == ERANGE)
			ds_problem(problems, node, node->key, "the number does not fit 64 bits");
	} else if (is_float(node->text)) {
		node->kind = DS_YAML_FLOAT;
		node->number = strtod(node->text, NULL);
	}
}

static struct ds_yaml *new_node(const struct parser *p, const yaml_event_t *event, enum ds_yaml_kind kind)
{
	struct ds_yaml *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	node->file = p->file;
	node->line = (unsigned)event->start_mark.line + 1;
	node->column = (unsigned)event->start_mark.column + 1;
	return node;
}

/* Of bytes that cannot be read, such as invalid UTF-8, libyaml knows the offset alone. */
static yaml_mark_t mark_of_offset(const struct parser *p)
{
	yaml_mark_t mark = {0};

	for (size_t i = 0; i < p->yaml.problem_offset; i++) {
		mark.column = p->text[i] == '\n' ? 0 : mark.column + 1;
		mark.line += p->text[i] == '\n';
	}
	return mark;
}

static int next_event(struct parser *p, yaml_event_t *event)
{
	const char *problem, *separator;
	yaml_mark_t mark;

	if (yaml_parser_parse(&p->yaml, event))
		return 0;
	problem = p->yaml.problem ? p->yaml.problem : "not YAML";
	mark = p->yaml.problem_mark;
	if (p->yaml.error == YAML_READER_ERROR)
		mark = mark_of_offset(p);
	separator = p->yaml.context ? ", " : "";
	ds_problem_at(p->problems, p->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1, "%s%s%s", problem,
		      separator, p->yaml.context ? p->yaml.context : "");
	return -EINVAL;
}

static int refuse(struct parser *p, const yaml_event_t *event, const char *sentence)
{
	ds_problem_at(p->problems, p->file, (unsigned)event->start_mark.line + 1,
		      (unsigned)event->start_mark.column + 1, "%s", sentence);
	return -EINVAL;
}

static int parse_node(struct parser *p, yaml_event_t *event, unsigned depth, struct ds_yaml **out);

/* @event is the key; read its value and put both into @map. */
static int parse_pair(struct parser *p, yaml_event_t *event, unsigned depth, struct ds_yaml *map)
{
	ds_cleanup(ds_freep) char *key = NULL;
	unsigned line = (unsigned)event->start_mark.line + 1, column = (unsigned)event->start_mark.column + 1;
	struct ds_yaml *value = NULL;
	int r;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(p, event, "a key must be plain text");
	if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
		return refuse(p, event, "a key with a NUL in it");
	if (map->n >= DS_YAML_MAX_KEYS)
		return refuse(p, event, "more than 1024 keys");
	key = strdup((const char *)event->data.scalar.value);
	if (!key)
		return -ENOMEM;
	yaml_event_delete(event);
	memset(event, 0, sizeof(*event));
	r = next_event(p, event);
	if (r == 0)
		r = parse_node(p, event, depth, &value);
	if (r < 0)
		return r;
	if (ds_yaml_get(map, key)) {
		ds_problem_at(p->problems, p->file, line, column, "%s: the key is there twice (first on line %u)", key,
			      ds_yaml_get(map, key)->key_line);
		ds_yaml_free(value);
		return 0;
	}
	value->key = ds_steal(&key);
	value->key_line = line;
	value->key_column = column;
	return append(map, value);
}

/* The items of @to up to the event @end. */
static int parse_items(struct parser *p, struct ds_yaml *to, unsigned depth, yaml_event_type_t end)
{
	for (;;) {
		ds_cleanup(yaml_event_delete) yaml_event_t event = {0};
		struct ds_yaml *item = NULL;
		int r = next_event(p, &event);

		if (r < 0)
			return r;
		if (event.type == end)
			return 0;
		if (to->kind == DS_YAML_MAP) {
			r = parse_pair(p, &event, depth + 1, to);
		} else {
			r = parse_node(p, &event, depth + 1, &item);
			if (r == 0)
				r = append(to, item);
		}
		if (r < 0)
			return r;
	}
}

static int parse_scalar(struct parser *p, const yaml_event_t *event, struct ds_yaml **out)
{
	ds_cleanup(ds_yaml_freep) struct ds_yaml *node = NULL;

	if (event->data.scalar.tag)
		return refuse(p, event, "tags are not allowed");
	if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
		return refuse(p, event, "text with a NUL in it");
	node = new_node(p, event, DS_YAML_TEXT);
	if (!node)
		return -ENOMEM;
	node->text = strdup((const char *)event->data.scalar.value);
	if (!node->text)
		return -ENOMEM;
	if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		resolve(node, p->problems);
	*out = ds_steal(&node);
	return 0;
}

/* @event begins a node: read all of it. */
static int parse_node(struct parser *p, yaml_event_t *event, unsigned depth, struct ds_yaml **out)
{
	ds_cleanup(ds_yaml_freep) struct ds_yaml *node = NULL;
	bool map = event->type == YAML_MAPPING_START_EVENT;
	int r;

	if (event->type == YAML_ALIAS_EVENT)
		return refuse(p, event, "anchors and aliases are not allowed");
	/* scalar, sequence_start and mapping_start begin with the same two members: anchor, tag */
	if (event->data.scalar.anchor)
		return refuse(p, event, "anchors and aliases are not allowed");
	if (event->type == YAML_SCALAR_EVENT)
		return parse_scalar(p, event, out);
	if (event->data.mapping_start.tag)
		return refuse(p, event, "tags are not allowed");
	if (depth >= DS_YAML_MAX_DEPTH)
		return refuse(p, event, "more than 16 levels");
	node = new_node(p, event, map ? DS_YAML_MAP : DS_YAML_LIST);
	if (!node)
		return -ENOMEM;
	r = parse_items(p, node, depth, map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT);
	if (r < 0)
		return r;
	*out = ds_steal(&node);
	return 0;
}

/* The stream from its start to its end, with at most one document. */
static int parse_stream(struct parser *p, struct ds_yaml **out)
{
	for (;;) {
		ds_cleanup(yaml_event_delete) yaml_event_t event = {0};
		int r = next_event(p, &event);

		if (r < 0)
			return r;
		switch (event.type) {
		case YAML_STREAM_END_EVENT:
			return 0;
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_DOCUMENT_START_EVENT:
			if (*out)
				return refuse(p, &event, "one document a file");
			break;
		default:
			r = parse_node(p, &event, 0, out);
			if (r < 0)
				return r;
		}
	}
}

int ds_yaml_parse(struct ds_yaml **out, const char *file, const char *text, size_t size, struct ds_problems *problems)
{
	ds_cleanup(ds_yaml_freep) struct ds_yaml *root = NULL;
	size_t n_before = problems->n;
	int r;

	if (size > DS_YAML_MAX_SIZE) {
		ds_problem_at(problems, file, 0, 0, "the file is larger than 1 MiB");
		return -EINVAL;
	}
	{
		ds_cleanup(deinit_parser) struct parser p = {.file = file, .text = text, .problems = problems};

		if (!yaml_parser_initialize(&p.yaml))
			return -ENOMEM;
		yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&p.yaml, (const unsigned char *)text, size);
		r = parse_stream(&p, &root);
	}
	if (r == 0 && !root) {
		root = calloc(1, sizeof(*root));
		if (!root)
			return -ENOMEM;
		*root = (struct ds_yaml){.kind = DS_YAML_MAP, .file = file, .line = 1, .column = 1};
	}
	if (r == 0 && root->kind == DS_YAML_NULL)
		root->kind = DS_YAML_MAP;
	if (r == 0 && root->kind != DS_YAML_MAP)
		ds_problem(problems, root, NULL, "the file must be a map of keys and values, not %s",
			   ds_yaml_kind_name(root->kind));
	if (r < 0 || problems->n > n_before)
		return r < 0 ? r : -EINVAL;
	*out = ds_steal(&root);
	return 0;
}

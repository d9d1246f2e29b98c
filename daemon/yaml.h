/* yaml.h - a YAML file as a tree of typed nodes that know where they stand, and the list of what is wrong.
 *
 * YAML 1.2 core scalars only: null, true/false, decimal, 0o and 0x integers, floats, text. Refused: tags, anchors and
 * aliases, several documents, duplicate keys, keys that are not scalars, more than 16 levels, more than 1024 keys in a map, more
 * than 1 MiB. */
#pragma once

#include <deepseekd/base.h>

#define DS_YAML_MAX_SIZE (1u << 20)
#define DS_YAML_MAX_DEPTH 16
#define DS_YAML_MAX_KEYS 1024 /* of one map */

/* Sentences "file:line:column: key: problem", all of them, in the order in which they were found. */
struct ds_problems {
	char **lines; /* [n] */
	size_t n;
};

void ds_problems_deinit(struct ds_problems *p);

enum ds_yaml_kind {
	DS_YAML_NULL,
	DS_YAML_BOOL,
	DS_YAML_INT,
	DS_YAML_FLOAT,
	DS_YAML_TEXT,
	DS_YAML_LIST,
	DS_YAML_MAP,
};

struct ds_yaml {
	enum ds_yaml_kind kind;
	const char *file; /* borrowed: outlives the tree */
	unsigned line, column;
	char *text; /* a scalar as it was written */
	bool flag;
	int64_t integer;
	double number; /* of FLOAT and INT */
	char *key;     /* NULL, or the key under which a map has this node */
	unsigned key_line, key_column;
	struct ds_yaml **items; /* [n]: of a LIST or MAP */
	size_t n;
};

/* Parse @text. An empty text is an empty MAP. -EINVAL: @problems says what and where. @file is borrowed. */
int ds_yaml_parse(struct ds_yaml **out, const char *file, const char *text, size_t size, struct ds_problems *problems);
struct ds_yaml *ds_yaml_free(struct ds_yaml *node); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_yaml)

/* Lay the map @upper over the map @lower, deeply: scalars and lists replace. Takes ownership of @upper. */
int ds_yaml_merge(struct ds_yaml *lower, struct ds_yaml *upper);

/* The node under @key of a MAP, or NULL. */
struct ds_yaml *ds_yaml_get(const struct ds_yaml *map, const char *key);

/* What a person calls this kind: "a list". */
const char *ds_yaml_kind_name(enum ds_yaml_kind kind);

/* Note a problem at the value of @node, at its key, or at a place. @key may be NULL. */
void ds_problem(struct ds_problems *p, const struct ds_yaml *node, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void ds_problem_key(struct ds_problems *p, const struct ds_yaml *node, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void ds_problem_at(struct ds_problems *p, const char *file, unsigned line, unsigned column, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

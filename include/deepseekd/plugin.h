/* plugin.h - what every plugin exports: one symbol, `const struct ds_plugin ds_plugin`, made by DS_PLUGIN().
 *
 * A plugin is data: no constructor, no code runs when it is opened. It links libc and libraries of its own, never the
 * daemon; services come in a struct ds_host. Whatever crosses is allocated by the host, except the plugin's own @self.
 * A plugin is used only after every vector of it gave the expected answer (lib/vectors.h runs them).
 * Lists end with an element whose name is NULL. Operation tables start with their size and only ever grow at the end. */
#pragma once

#include "base.h"

#define DS_PLUGIN_ABI 3u /* compared for equality */

enum ds_plugin_kind {
	DS_PLUGIN_FORMAT = 1, /* format.h */
	DS_PLUGIN_TOKENIZER,  /* tokenizer.h */
	DS_PLUGIN_BACKEND,    /* backend.h */
	DS_PLUGIN_SAMPLER,    /* sampler.h */
	DS_PLUGIN_DIALECT,    /* dialect.h */
};

enum ds_option_type {
	DS_OPTION_BOOL,
	DS_OPTION_INT,
	DS_OPTION_FLOAT,
	DS_OPTION_TEXT,
};

/* Something an administrator or a request may set. Bounds hold for INT and FLOAT, inclusive. */
struct ds_option {
	const char *name;
	const char *help;
	enum ds_option_type type;
	double value; /* default; BOOL: 0 or 1 */
	double min, max;
	const char *text; /* default of TEXT */
};

/* The value given to an option; the host has checked name, type and bounds. Options not listed keep their default. */
struct ds_setting {
	const char *name;
	double value;
	const char *text;
};

/* Known input and known output of @entry, both JSON; the header of the kind says which keys. */
struct ds_vector {
	const char *name; /* a sentence: what is shown */
	const char *entry;
	const char *input;
	const char *output;
};

struct ds_entry {
	const char *name;
	const char *summary;
	const void *ops; /* the table of the kind */
};

struct ds_plugin {
	uint32_t abi;
	uint32_t kind; /* enum ds_plugin_kind */
	const char *name; /* equals the file name without .so */
	const char *version;
	const char *summary;
	const struct ds_option *options; /* NULL: none */
	const struct ds_vector *vectors;
	const struct ds_entry *entries;
};

/* Services of the process that opened the plugin. Valid until the plugin's last self is closed. */
struct ds_host {
	size_t size;
	void (*log)(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* syslog priorities */
	void *(*alloc)(size_t size); /* zeroed; NULL when there is no memory */
	void (*free)(void *p);	     /* takes NULL */
};

#define DS_PLUGIN(...)                                                                  \
	__attribute__((visibility("default"))) extern const struct ds_plugin ds_plugin; \
	const struct ds_plugin ds_plugin = {.abi = DS_PLUGIN_ABI, __VA_ARGS__}

/* The number given for @name in @settings (NULL: none given), else @otherwise. */
static inline double ds_setting(const struct ds_setting *settings, const char *name, double otherwise)
{
	for (; settings && settings->name; settings++) {
		const char *a = settings->name, *b = name;

		while (*a && *a == *b)
			a++, b++;
		if (*a == *b)
			return settings->value;
	}
	return otherwise;
}

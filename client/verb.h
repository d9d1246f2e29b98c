/* verb.h - what a verb of dsctl is: a file with a comment, a const struct ds_verb and its function.
 *
 * Help, usage and the parsing of options all come from these tables. A new verb is one file, its declaration
 * below and one row in main.c. */
#pragma once

#include "http.h"

enum ds_flag_type {
	DS_FLAG_BOOL,   /* bool */
	DS_FLAG_TEXT,   /* const char *, NULL until given */
	DS_FLAG_NUMBER, /* struct ds_number */
	DS_FLAG_COUNT,  /* struct ds_number that is a whole number, not negative */
};

struct ds_number {
	bool given;
	double value;
};

struct ds_flag {
	const char *name;
	char letter; /* 0: none */
	enum ds_flag_type type;
	size_t offset; /* of its variable in the verb's options */
	const char *value, *help;
};

/* What every verb gets. */
struct ds_client {
	struct ds_http *http;
	const char *socket;
	const char *bus;  /* --bus, or NULL */
	bool is_system;   /* the socket is the system's, and nobody named it */
	bool no_ask_password;
	bool json;      /* print JSON */
	bool legend;    /* print the heads of tables */
	double timeout; /* seconds; 0: none */
};

struct ds_verb {
	const char *name;  /* one word or two */
	const char *usage; /* its arguments */
	const char *help;
	const struct ds_flag *flags; /* ends with a NULL name; NULL: none */
	size_t options_size;
	unsigned min_args, max_args;
	/* @options is zeroed and then filled from the flags; @args ends with NULL. Negative errnos become exit codes in
	 * main.c; a positive return is the exit code itself. */
	int (*run)(struct ds_client *client, const void *options, char *const *args, struct ds_error *err);
};

extern const struct ds_verb ds_verb_status, ds_verb_ls, ds_verb_load, ds_verb_unload, ds_verb_run, ds_verb_chat,
	ds_verb_plugins, ds_verb_config_check, ds_verb_verify, ds_verb_inspect, ds_verb_tokenize, ds_verb_quantize,
	ds_verb_render, ds_verb_key_add, ds_verb_key_ls, ds_verb_key_rm, ds_verb_completion, ds_verb_top,
	ds_verb_log, ds_verb_doctor, ds_verb_bench;

/* All of them (ends with NULL), and the options that each takes beside its own; in main.c. */
extern const struct ds_verb *const ds_verbs[];
extern const struct ds_flag ds_global_flags[];

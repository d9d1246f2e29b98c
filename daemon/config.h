/* config.h - what the administrator wants, from YAML files to one typed struct.
 *
 * Layers, lowest first; in each deepseekd.yaml, conf.d/ and models.d/ (or those beside the file of --config alone):
 *   deepseekd.yaml   laid over the layers below: maps deeply, scalars and lists replace
 *   conf.d/NAME.yaml fragments of it, in order of NAME, over that
 *   models.d/NAME.yaml one model each
 * A NAME.yaml replaces the one of the same name in a lower layer; a link to /dev/null (also for deepseekd.yaml) hides
 * what is below. Relative paths are relative to their file.
 * Which keys there are is the two tables of config-table.c. */
#pragma once

#include "who.h"
#include "yaml.h"

#include <jansson.h>
#include <sys/types.h>

#define DS_CONFIG_NEVER UINT64_MAX /* a duration that does not end */

/* One file of models.d. */
struct ds_model_config {
	char *name;
	char *path;
	char **aliases; /* NULL-terminated */
	bool preload;
	bool pin;
	uint64_t keep_alive_usec; /* DS_CONFIG_NEVER: unloaded by nothing but a wish */
	int64_t context; /* 0: the model's own */
	int64_t parallel;
	char *residency, *backend, *precision, *kv_type, *dialect;
	json_t *sampling;           /* {option: value} */
	struct ds_who users, groups, keys; /* who may use it; all empty without `access`: as ds_config says */
	const struct ds_yaml *tree; /* borrowed from the ds_config: for places in messages */
};

/* Counted: the daemon holds one reference, each model that still follows an older configuration holds another. */
struct ds_config {
	unsigned n_refs;
	int64_t version;
	char *default_model; /* may be "" */
	uint64_t idle_exit_usec; /* DS_CONFIG_NEVER: stay */
	char *socket;        /* "": the default of the runtime directory */
	unsigned mode;
	char *group; /* "": leave it */
	char *metrics; /* the path of its socket; "": none */
	char *tcp;   /* "": no TCP */
	char **tcp_hosts; /* NULL-terminated */
	int64_t tcp_clients;
	uint64_t max_body;
	int64_t max_clients;
	uint64_t idle_usec;
	uint64_t memory; /* bytes for models */
	int64_t queue;
	uint64_t stall_usec;
	uint64_t step_usec; /* of an engine that computes */
	char *plugin_dir;       /* "": the one compiled in */
	char **plugins;         /* NULL-terminated */
	json_t *plugin_options; /* {plugin: {option: value}} */
	char *log_level;
	struct ds_who users, groups, keys; /* who may use models that do not say so themselves */
	int64_t user_parallel, user_queue, max_tokens; /* of each user, 0: no limit */

	struct ds_model_config *models; /* [n_models] */
	size_t n_models;

	struct ds_yaml *tree;         /* deepseekd.yaml of all layers; then what it borrows */
	struct ds_yaml **model_trees; /* [n_models] */
	char **files;                 /* names of files that were read, NULL-terminated */
};

/* Read and check everything. -EINVAL: @problems holds at least one sentence. @layers: NULL-terminated directories,
 * lowest first; ignored when @file (--config) is given. */
int ds_config_load(struct ds_config **out, const char *file, const char *const *layers, struct ds_problems *problems);

/* The same for one deepseekd.yaml that is already in memory. */
int ds_config_parse(struct ds_config **out, const char *name, const char *text, size_t size,
		    struct ds_problems *problems);
/* The same for one file of models.d. */
int ds_config_parse_model(struct ds_config *config, const char *name, const char *text, size_t size,
			  struct ds_problems *problems);

struct ds_config *ds_config_ref(struct ds_config *config);
struct ds_config *ds_config_unref(struct ds_config *config); /* takes NULL, returns NULL */
static inline void ds_config_unrefp(struct ds_config **p)
{
	ds_config_unref(*p);
}

/* Would both load the same model in the same way? */
bool ds_config_same_model(const struct ds_model_config *a, const struct ds_model_config *b);

/* Do the options of plugins and the sampling of models exist, and are they in bounds; do backends and dialects exist? @catalog is what
 * `ds-loader --describe-plugins` says. Adds to @problems. */
void ds_config_check_options(const struct ds_config *config, const json_t *catalog, struct ds_problems *problems);

/* Names of users and groups that do not exist here: not wrong, but worth a line each. */
void ds_config_warn(const struct ds_config *config, struct ds_problems *warnings);

/* How a value of the configuration becomes JSON, as helpers get it. NULL: no memory. */
json_t *ds_config_to_json(const struct ds_yaml *node);

/* config-table.c */
enum ds_key_type {
	DS_KEY_BOOL,     /* bool */
	DS_KEY_INT,      /* int64_t */
	DS_KEY_SIZE,     /* uint64_t, bytes */
	DS_KEY_MEMORY,   /* uint64_t, bytes; a percentage is one of the machine's memory */
	DS_KEY_DURATION, /* uint64_t, microseconds */
	DS_KEY_MODE,     /* unsigned, octal */
	DS_KEY_TEXT,     /* char * */
	DS_KEY_NAME,     /* char *: letters, digits and ._:- */
	DS_KEY_PATH,     /* char *, made absolute */
	DS_KEY_CHOICE,   /* char *, one of the choices */
	DS_KEY_ADDRESS,  /* char *: "" or an address in numbers and a port */
	DS_KEY_NAMES,    /* char **, NULL-terminated */
	DS_KEY_VALUES,   /* json_t *: {option: scalar} */
	DS_KEY_TABLES,   /* json_t *: {name: {option: scalar}} */
	DS_KEY_USERS,    /* struct ds_who */
	DS_KEY_GROUPS,   /* struct ds_who */
	DS_KEY_KEYS,     /* struct ds_who */
};

struct ds_key {
	const char *name; /* dotted; NULL ends the table */
	enum ds_key_type type;
	size_t offset;       /* in struct ds_config or ds_model_config */
	const char *value;   /* default as it would be written in YAML; NULL: the key must be there */
	double min, max;     /* of INT, SIZE (bytes), DURATION (seconds) */
	const char *choices; /* of CHOICE: "a, b"; of DURATION: the word for DS_CONFIG_NEVER */
	const char *help;
};

extern const struct ds_key ds_config_keys[];
extern const struct ds_key ds_model_keys[];

/* Fill @base from the map @tree by @keys: every problem is noted, defaults fill what is absent. */
int ds_config_fill(void *base, const struct ds_key *keys, const struct ds_yaml *tree, struct ds_problems *problems);
void ds_config_clear(void *base, const struct ds_key *keys);

/* The member of @names nearest to @name, or NULL if none is near. @names is NULL-terminated. */
const char *ds_config_nearest(const char *name, const char *const *names);

/* Letters, digits and ._:- ; at most 64, the first a letter or digit. */
bool ds_config_is_name(const char *text);

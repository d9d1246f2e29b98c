/* verb-completion.c - dsctl completion: prints the completion of a shell, made from the tables of verbs and options.
 *
 * The scripts that are installed are this output: a new verb or option is completed without a line here. What an argument
 * is, its name in the usage tells (kinds[]). Names of models are asked of the daemon, which costs a second at most
 * and nothing where there is none. */
#include "output.h"
#include "verb.h"

#include <string.h>

enum kind {
	KIND_OTHER = 0, /* nobody knows its values */
	KIND_MODEL = 1,
	KIND_FILE = 2, /* flags: PATH|NAME is both */
	KIND_DIR = 4,
};

/* What words of usages and flags stand for. */
static const struct {
	const char *word;
	enum kind kind;
} kinds[] = {
	{"MODEL", KIND_MODEL}, {"NAME", KIND_MODEL}, {"PATH", KIND_FILE}, {"FILE", KIND_FILE},
	{"SRC", KIND_FILE},    {"DST", KIND_FILE},   {"DIR", KIND_DIR},
};

/* An argument of a usage such as "[MODEL] [PROMPT...]". */
struct argument {
	char name[64];
	unsigned kind; /* of enum kind */
	bool repeats;
};

static unsigned kind_of(const char *name)
{
	unsigned kind = KIND_OTHER;

	while (name && *name) {
		size_t length = strcspn(name, "|");

		for (size_t i = 0; i < DS_ARRAY_SIZE(kinds); i++)
			if (strlen(kinds[i].word) == length && !memcmp(kinds[i].word, name, length))
				kind |= kinds[i].kind;
		name += length;
		name += *name == '|';
	}
	return kind;
}

/* The next argument of the usage of @verb at @*at, which moves on; false at its end. An option and its value are none. */
static bool next_argument(const struct ds_verb *verb, const char **at, struct argument *out)
{
	bool skip = false;

	for (const char *p = *at + strspn(*at, " "); *p; p += strspn(p, " ")) {
		size_t length = strcspn(p, " "), n = 0;
		bool option = *p == '-' || (p[0] == '[' && p[1] == '-');

		*out = (struct argument){.repeats = memmem(p, length, "...", 3) != NULL};
		for (size_t i = 0; i < length && n + 1 < sizeof(out->name); i++)
			if (!strchr("[].", p[i]))
				out->name[n++] = p[i];
		p += length;
		if (!option && !skip) {
			/* The NAME that "key add" takes is that of a key. */
			out->kind = kind_of(out->name) & (strchr(verb->name, ' ') ? ~(unsigned)KIND_MODEL : ~0u);
			*at = p;
			return true;
		}
		skip = option;
	}
	return false;
}

/* @text with a backslash before each character of @special; the shell's single quotes are around it. */
static void print_quoted(const char *text, const char *special, const char *apostrophe)
{
	for (; *text; text++)
		if (*text == '\'')
			fputs(apostrophe, stdout);
		else
			printf("%s%c", strchr(special, *text) ? "\\" : "", *text);
}

static void bash_print_flags(const struct ds_flag *f, bool values)
{
	for (; f && f->name; f++) {
		if (values && f->value)
			printf("\t*' --%s') kind=%u ;;\n", f->name, kind_of(f->value));
		if (values && f->value && f->letter)
			printf("\t*' -%c') kind=%u ;;\n", f->letter, kind_of(f->value));
		if (!values)
			printf(" --%s", f->name);
		if (!values && f->letter)
			printf(" -%c", f->letter);
	}
}

static const char bash_head[] =
	"# bash completion of dsctl, made by: dsctl completion bash\n"
	"\n"
	"_dsctl_models()\n"
	"{\n"
	"\tlocal name rest\n"
	"\tdsctl ${1:+--socket \"$1\"} --no-legend --timeout 1 ls 2>/dev/null </dev/null |\n"
	"\t\twhile read -r name rest; do printf '%s\\n' \"$name\"; done\n"
	"}\n"
	"\n"
	"# Sets kind to what follows the option $2 of the verb $1: a sum of 1 models, 2 files, 4 folders; empty: nothing does.\n"
	"_dsctl_value()\n"
	"{\n"
	"\tkind=\n"
	"\tcase \"$1 $2\" in\n";

static const char bash_tail[] =
	"# The line is split at spaces, since bash would also do it at the colons of a model's name.\n"
	"_dsctl()\n"
	"{\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} cur word value='' kind='' verb='' typed='' socket='' found='' IFS=$' \\t\\n'\n"
	"\tlocal -a words\n"
	"\tlocal -i n=0 ended=0\n"
	"\tread -ra words <<<\"$line\"\n"
	"\tcur=${line##*[[:space:]]}\n"
	"\t[ -n \"$cur\" ] && unset 'words[-1]'\n"
	"\tfor word in \"${words[@]:1}\"; do\n"
	"\t\tif [ -n \"$value\" ]; then\n"
	"\t\t\t[ \"$value\" = --socket ] && socket=$word\n"
	"\t\t\tvalue=\n"
	"\t\t\tcontinue\n"
	"\t\tfi\n"
	"\t\tcase $ended$word in\n"
	"\t\t0--) ended=1 ;;\n"
	"\t\t0--socket=*) socket=${word#*=} ;;\n"
	"\t\t0-*)\n"
	"\t\t\t_dsctl_value \"$verb\" \"$word\"\n"
	"\t\t\t[ -n \"$kind\" ] && value=$word\n"
	"\t\t\t;;\n"
	"\t\t*)\n"
	"\t\t\tif [ -n \"$verb\" ]; then\n"
	"\t\t\t\tn+=1\n"
	"\t\t\telse\n"
	"\t\t\t\ttyped+=${typed:+ }$word\n"
	"\t\t\t\t_dsctl_is_verb \"$typed\" && verb=$typed\n"
	"\t\t\tfi\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tif [ -n \"$value\" ]; then\n"
	"\t\t_dsctl_value \"$verb\" \"$value\"\n"
	"\telif [ $ended = 0 ] && [[ $cur == --*=* ]]; then\n"
	"\t\t_dsctl_value \"$verb\" \"${cur%%=*}\"\n"
	"\t\tcur=${cur#*=}\n"
	"\telif [ $ended = 0 ] && [[ $cur == -* ]]; then\n"
	"\t\tkind=0 found=$(_dsctl_options \"$verb\")\n"
	"\telif [ -z \"$verb\" ]; then\n"
	"\t\tkind=0 found=$(_dsctl_verbs \"$typed\")\n"
	"\telse\n"
	"\t\t_dsctl_argument \"$verb\" $n\n"
	"\tfi\n"
	"\t(((${kind:-0} & 1))) && found+=$'\\n'$(_dsctl_models \"$socket\")\n"
	"\tmapfile -t COMPREPLY < <(compgen -W \"$found\" -- \"$cur\")\n"
	"\tif (((${kind:-0} & 6))); then\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tmapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(\n"
	"\t\t\tif (((kind & 2))); then compgen -f -- \"$cur\"; else compgen -d -- \"$cur\"; fi)\n"
	"\tfi\n"
	"\t# What stands before the last colon or equal sign is another word to bash.\n"
	"\tword=${cur##*[:=]}\n"
	"\tCOMPREPLY=(\"${COMPREPLY[@]#\"${cur%\"$word\"}\"}\")\n"
	"}\n"
	"\n"
	"complete -F _dsctl dsctl\n";

static void bash_print_arguments(void)
{
	puts("# Sets kind for the argument number $2, from 0, of the verb $1.\n"
	     "_dsctl_argument()\n{\n\tkind=\n\tcase \"$1 $2\" in");
	for (const struct ds_verb *const *v = ds_verbs; *v; v++) {
		const char *at = (*v)->usage;
		struct argument a;

		for (unsigned i = 0; next_argument(*v, &at, &a); i++)
			if (a.repeats)
				printf("\t'%s '*) kind=%u ;;\n", (*v)->name, a.kind);
			else
				printf("\t'%s %u') kind=%u ;;\n", (*v)->name, i, a.kind);
	}
	puts("\tesac\n}\n");
}

static void print_bash(void)
{
	fputs(bash_head, stdout);
	bash_print_flags(ds_global_flags, true);
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		for (const struct ds_flag *f = (*v)->flags; f && f->name; f++) {
			if (f->value)
				printf("\t'%s --%s') kind=%u ;;\n", (*v)->name, f->name, kind_of(f->value));
			if (f->value && f->letter)
				printf("\t'%s -%c') kind=%u ;;\n", (*v)->name, f->letter, kind_of(f->value));
		}
	puts("\tesac\n}\n");
	fputs("_dsctl_options()\n{\n\techo", stdout);
	bash_print_flags(ds_global_flags, false);
	puts("\n\tcase $1 in");
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		if ((*v)->flags) {
			printf("\t'%s') echo", (*v)->name);
			bash_print_flags((*v)->flags, false);
			puts(" ;;");
		}
	puts("\tesac\n}\n");
	bash_print_arguments();
	puts("_dsctl_is_verb()\n{\n\tcase $1 in");
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		printf("\t'%s'%s\n", (*v)->name, v[1] ? " |\\" : ") return 0 ;;");
	puts("\tesac\n\treturn 1\n}\n");
	puts("# The next words of the verbs that begin with the words $1.\n"
	     "_dsctl_verbs()\n{\n\tlocal verb rest\n\tfor verb in\\");
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		printf("\t\t'%s'%s\n", (*v)->name, v[1] ? "\\" : "; do");
	puts("\t\trest=${verb#\"${1:+$1 }\"}\n"
	     "\t\t[ -n \"$1\" ] && [ \"$rest\" = \"$verb\" ] || printf '%s\\n' \"${rest%% *}\"\n"
	     "\tdone\n}\n");
	fputs(bash_tail, stdout);
}

/* The function of zsh that completes what is of @kind. */
static const char *zsh_action(unsigned kind)
{
	switch (kind) {
	case KIND_MODEL:
		return "_dsctl_models";
	case KIND_FILE:
		return "_files";
	case KIND_DIR:
		return "_files -/";
	case KIND_MODEL | KIND_FILE:
		return "_dsctl_models_and_files";
	}
	return "";
}

static void zsh_print_flags(const struct ds_flag *f)
{
	for (; f && f->name; f++) {
		char both[80];

		/* An option that takes a value may have it behind an equal sign. */
		if (f->letter)
			snprintf(both, sizeof(both), "'(-%c --%s)'{-%c,--%s%s}'", f->letter, f->name, f->letter, f->name,
				 f->value ? "=" : "");
		else
			snprintf(both, sizeof(both), "'--%s%s", f->name, f->value ? "=" : "");
		printf("\t\t%s[", both);
		print_quoted(f->help, "[]:\\", "'\\''");
		fputs("]", stdout);
		if (f->value)
			printf(":%s:%s", f->value, zsh_action(kind_of(f->value)));
		puts("'");
	}
}

static void zsh_print_verb(const struct ds_verb *verb)
{
	const char *at = verb->usage;
	struct argument a;

	printf("\t'%s') arguments=(\n", verb->name);
	zsh_print_flags(verb->flags);
	for (unsigned i = 1; next_argument(verb, &at, &a); i++) {
		if (a.repeats)
			printf("\t\t'*:%s:%s'\n", a.name, zsh_action(a.kind));
		else
			printf("\t\t'%u::%s:%s'\n", i, a.name, zsh_action(a.kind));
	}
	puts("\t) ;;");
}

static const char zsh_head[] =
	"#compdef dsctl\n"
	"# zsh completion of dsctl, made by: dsctl completion zsh\n"
	"\n"
	"_dsctl_models() {\n"
	"\tlocal socket=${(Q)opt_args[--socket]}\n"
	"\tlocal -a models\n"
	"\tmodels=(${(f)\"$(dsctl ${socket:+--socket} $socket --no-legend --timeout 1 ls 2>/dev/null </dev/null)\"})\n"
	"\tcompadd -- ${models%% *}\n"
	"}\n"
	"\n"
	"_dsctl_models_and_files() {\n"
	"\t_dsctl_models\n"
	"\t_files\n"
	"}\n"
	"\n"
	"_dsctl() {\n"
	"\tlocal curcontext=$curcontext state line name verb\n"
	"\tlocal -a globals arguments next\n"
	"\tlocal -A opt_args verbs\n";

static const char zsh_tail[] =
	"\t_arguments -C $globals '1: :->verb' '*:: :->rest' && return\n"
	"\tif [[ $state == rest ]]; then\n"
	"\t\tverb=$words[1]\n"
	"\t\twhile (( ! ${+verbs[$verb]} && CURRENT > 2 )); do\n"
	"\t\t\tshift words\n"
	"\t\t\t(( CURRENT-- ))\n"
	"\t\t\tverb+=\" $words[1]\"\n"
	"\t\tdone\n"
	"\tfi\n"
	"\tif (( ! ${+verbs[$verb]} )); then\n"
	"\t\tfor name in ${(k)verbs}; do\n"
	"\t\t\t[[ -z $verb ]] && next+=(\"${name%% *}:$verbs[$name]\")\n"
	"\t\t\t[[ $name == \"$verb \"* ]] && next+=(\"${${name#$verb }%% *}:$verbs[$name]\")\n"
	"\t\tdone\n"
	"\t\t_describe -t verbs verb next\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tcase $verb in\n";

static void print_zsh(void)
{
	fputs(zsh_head, stdout);
	puts("\tglobals=(");
	zsh_print_flags(ds_global_flags);
	puts("\t)\n\tverbs=(");
	for (const struct ds_verb *const *v = ds_verbs; *v; v++) {
		printf("\t\t'%s' '", (*v)->name);
		print_quoted((*v)->help, "", "'\\''");
		puts("'");
	}
	puts("\t)");
	fputs(zsh_tail, stdout);
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		zsh_print_verb(*v);
	puts("\tesac\n"
	     "\t_arguments $globals $arguments\n"
	     "}\n\n"
	     "_dsctl \"$@\"");
}

static const char fish_head[] =
	"# fish completion of dsctl, made by: dsctl completion fish\n"
	"\n"
	"function __dsctl_models\n"
	"    dsctl --no-legend --timeout 1 ls 2>/dev/null </dev/null | string replace -r ' .*' ''\n"
	"end\n"
	"\n"
	"# Whether the words of the line that are neither options nor their values begin with those given; with -x, are them.\n"
	"function __dsctl_at\n"
	"    set -l exactly (test \"$argv[1]\" = -x; and set -e argv[1]; and echo yes)\n"
	"    set -l words\n"
	"    set -l skip no\n"
	"    for word in (commandline -opc)[2..-1]\n"
	"        if test $skip = yes\n"
	"            set skip no\n";

static const char fish_tail[] =
	"            set skip yes\n"
	"        else if not string match -q -- '-*' $word\n"
	"            set -a words $word\n"
	"        end\n"
	"    end\n"
	"    set -l n (count $argv)\n"
	"    test -n \"$exactly\"; and test (count $words) != $n; and return 1\n"
	"    test $n = 0; and return 0\n"
	"    test (count $words) -ge $n; and test \"$words[1..$n]\" = \"$argv\"\n"
	"end\n"
	"\n"
	"complete -c dsctl -f\n";

/* What fish offers for values of @kind. */
static void fish_print_values(unsigned kind)
{
	if (kind & KIND_MODEL)
		fputs(" -a '(__dsctl_models)'", stdout);
	if (kind & KIND_FILE)
		fputs(" -F", stdout);
	if (kind & KIND_DIR)
		fputs(" -a '(__fish_complete_directories)'", stdout);
}

static void fish_print_flags(const struct ds_flag *f, const char *verb)
{
	for (; f && f->name; f++) {
		fputs("complete -c dsctl", stdout);
		if (verb)
			printf(" -n '__dsctl_at %s'", verb);
		printf(" -l %s", f->name);
		if (f->letter)
			printf(" -s %c", f->letter);
		if (f->value)
			fputs(kind_of(f->value) & KIND_FILE ? " -r" : " -x", stdout);
		fish_print_values(f->value ? kind_of(f->value) : KIND_OTHER);
		fputs(" -d '", stdout);
		print_quoted(f->help, "\\", "\\'");
		puts("'");
	}
}

static void fish_print_verb(const struct ds_verb *verb)
{
	const char *space = strrchr(verb->name, ' '), *at = verb->usage;
	struct argument a;
	unsigned kind = KIND_OTHER;

	printf("complete -c dsctl -n '__dsctl_at -x%s%.*s' -a %s -d '", space ? " " : "",
	       space ? (int)(space - verb->name) : 0, verb->name, space ? space + 1 : verb->name);
	print_quoted(verb->help, "\\", "\\'");
	puts("'");
	if (space)
		printf("complete -c dsctl -n '__dsctl_at -x' -a %.*s\n", (int)(space - verb->name), verb->name);
	while (next_argument(verb, &at, &a))
		kind |= a.kind;
	if (kind != KIND_OTHER) {
		printf("complete -c dsctl -n '__dsctl_at %s'", verb->name);
		fish_print_values(kind);
		putchar('\n');
	}
	fish_print_flags(verb->flags, verb->name);
}

/* The options whose value is the next word. */
static void fish_print_values_of(const struct ds_flag *f)
{
	for (; f && f->name; f++)
		if (f->value && f->letter)
			printf(" --%s -%c", f->name, f->letter);
		else if (f->value)
			printf(" --%s", f->name);
}

static void print_fish(void)
{
	fputs(fish_head, stdout);
	fputs("        else if contains -- $word", stdout);
	fish_print_values_of(ds_global_flags);
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		fish_print_values_of((*v)->flags);
	putchar('\n');
	fputs(fish_tail, stdout);
	fish_print_flags(ds_global_flags, NULL);
	for (const struct ds_verb *const *v = ds_verbs; *v; v++)
		fish_print_verb(*v);
}

static const struct {
	const char *name;
	void (*print)(void);
} shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

static int completion(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(shells); i++)
		if (strcmp(args[0], shells[i].name) == 0) {
			shells[i].print();
			return 0;
		}
	return ds_fail(err, -EINVAL, "%s: completions are there for bash, zsh and fish", args[0]);
}

const struct ds_verb ds_verb_completion = {
	.name = "completion",
	.usage = "SHELL",
	.help = "Print the completion of bash, zsh or fish",
	.min_args = 1,
	.max_args = 1,
	.run = completion,
};

/* tokenizer.c - how fast text becomes tokens: tokenizer TOKENIZER.JSON [TEXT...]
 *
 * Prints MB/s of one thread, and the ratio to how fast the same bytes are copied, for the texts given (or English words
 * made up from a list) and for texts that tokenizers are known to be slow on: a megabyte of one letter, of letters
 * without a space, of spaces, of random bytes. For those the ratio of a megabyte's time to 64 KiB's is printed, too: 16
 * is linear. */
#include "plugins/tokenizer-bpe/bpe.h"

#include <deepseekd/format.h>

#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define ENGLISH (4u << 20)
#define AWKWARD (1u << 20)
#define ROUNDS 5

extern const struct ds_format_ops ds_safetensors_ops;

static void *host_alloc(size_t size)
{
	return calloc(1, size);
}

static const struct ds_host host = {.size = sizeof(host), .alloc = host_alloc, .free = free};

/* Of this thread: others may be at work on this machine. */
static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The shortest time that @text takes. */
static double time_encode(void *self, const char *text, size_t n, size_t *n_ids)
{
	double best = 1e9;

	for (int i = 0; i < ROUNDS; i++) {
		struct ds_error error = {""};
		uint32_t *ids = NULL;
		double begin = seconds();

		*n_ids = 0;
		if (ds_bpe_encode(self, text, n, 0, SIZE_MAX, &ids, n_ids, &error) < 0)
			errx(1, "%s", error.text);
		if (seconds() - begin < best)
			best = seconds() - begin;
		free(ids);
	}
	return best;
}

static double time_copy(const char *text, size_t n)
{
	char *copy = malloc(n);
	double best = 1e9;

	for (int i = 0; copy && i < ROUNDS; i++) {
		double begin = seconds();

		memcpy(copy, text, n);
		__asm__ volatile("" : : "r"(copy) : "memory");
		if (seconds() - begin < best)
			best = seconds() - begin;
	}
	free(copy);
	return best;
}

static void measure(void *self, const char *name, const char *text, size_t n)
{
	size_t n_ids;
	double time = time_encode(self, text, n, &n_ids), copy = time_copy(text, n);

	printf("%-28s %8.1f MB/s %9zu tokens, 1/%.0f of copying", name, (double)n / 1e6 / time, n_ids, time / copy);
	if (n == AWKWARD)
		printf(", 1 MiB : 64 KiB = %.1f", time / time_encode(self, text, n / 16, &n_ids));
	putchar('\n');
}

/* Words as often as they are in English, roughly: the n-th of them 1 / n as often as the first. */
static size_t write_english(char *text, size_t capacity)
{
	static const char *const words[] = {
		"the",     "of",     "and",      "to",      "in",       "a",         "is",        "that",       "for",
		"it",      "as",     "was",      "with",    "be",       "by",        "on",        "not",        "he",
		"his",     "but",    "at",       "are",     "this",     "have",      "from",      "which",      "one",
		"would",   "all",    "will",     "there",   "their",    "more",      "when",      "language",   "model",
		"memory",  "system", "service",  "through", "question", "remember",  "between",   "different",  "government",
		"company", "number", "children", "example", "research", "something", "important", "production", "university",
		"ancient", "tokens", "quickly",  "lantern", "oscillate", "parchment", "bureaucracy", "Mediterranean",
		"photosynthesis", "incomprehensible"};
	static const char *const ends[] = {" ", " ", " ", " ", " ", " ", " ", ", ", ". ", " "};
	uint32_t state = 1;
	size_t n = 0;

	while (n + 32 < capacity) {
		state = state * 1664525u + 1013904223u;
		size_t at = (size_t)(state >> 16) % DS_ARRAY_SIZE(words);

		state = state * 1664525u + 1013904223u;
		at = (at * ((state >> 16) % 64)) / 64;
		n = (size_t)(stpcpy(stpcpy(text + n, words[at]), ends[(state >> 8) % DS_ARRAY_SIZE(ends)]) - text);
		if (state % 97 == 0)
			text[n - 1] = '\n';
	}
	return n;
}

static void measure_awkward(void *self, char *text)
{
	uint32_t state = 1;

	memset(text, 'a', AWKWARD);
	measure(self, "one letter", text, AWKWARD);
	memset(text, ' ', AWKWARD);
	measure(self, "spaces", text, AWKWARD);
	for (size_t i = 0; i < AWKWARD; i++)
		text[i] = (char)('a' + ((state = state * 1664525u + 1013904223u) >> 16) % 26);
	measure(self, "letters without a space", text, AWKWARD);
	for (size_t i = 0; i < AWKWARD; i++)
		text[i] = (char)((state = state * 1664525u + 1013904223u) >> 16);
	measure(self, "random bytes", text, AWKWARD);
}

static void measure_file(void *self, const char *path)
{
	FILE *file = fopen(path, "re");
	struct stat status;
	char *text;

	if (!file || fstat(fileno(file), &status) < 0)
		err(1, "%s", path);
	text = malloc((size_t)status.st_size + 1);
	if (!text || fread(text, 1, (size_t)status.st_size, file) != (size_t)status.st_size)
		err(1, "%s", path);
	measure(self, path, text, (size_t)status.st_size);
	free(text);
	fclose(file);
}

/* Called while the vocabulary is described, which lives as long; @files: the arguments, to NULL. */
static int measure_all(void *files, const struct ds_vocabulary *vocabulary, struct ds_error *error)
{
	char *text = malloc(ENGLISH);
	void *self = NULL;
	int r = text ? ds_bpe_open(&self, &host, vocabulary, error) : -ENOMEM;

	if (r < 0)
		return r;
	measure(self, "English words", text, write_english(text, ENGLISH));
	for (char **path = files; *path; path++)
		measure_file(self, *path);
	measure_awkward(self, text);
	ds_bpe_close(self);
	free(text);
	return 0;
}

static int no_chat_template(void *self, const char *chat_template, struct ds_error *error)
{
	return 0;
}

int main(int argc, char **argv)
{
	struct ds_builder builder = {
		.size = sizeof(builder), .self = argv + 2, .vocabulary = measure_all, .chat_template = no_chat_template};
	struct ds_file file = {.name = "tokenizer.json"};
	struct ds_error error = {"no memory"};
	struct stat status;

	if (argc < 2)
		errx(1, "usage: tokenizer TOKENIZER.JSON [TEXT...]");
	file.fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (file.fd < 0 || fstat(file.fd, &status) < 0)
		err(1, "%s", argv[1]);
	file.size = (uint64_t)status.st_size;
	if (ds_safetensors_ops.describe(&host, &file, 1, &builder, &error) < 0)
		errx(1, "%s", error.text);
	close(file.fd);
	return 0;
}

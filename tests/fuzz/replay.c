/* replay.c - stands in for libFuzzer in `make check`: gives a fuzz target every file of its corpus, once.
 *
 * fuzz-NAME without arguments replays tests/fuzz/corpus/NAME; with arguments, those files and directories. */
#include <deepseekd/base.h>

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_replayed;

static void fail(const char *path)
{
	fprintf(stderr, "%s: %m\n", path);
	exit(1);
}

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	uint8_t *data;

	if (!f || fstat(fileno(f), &st) < 0)
		fail(path);
	/* exactly as large as the input, so that a sanitizer sees the first byte past it */
	data = malloc((size_t)st.st_size);
	if ((!data && st.st_size) || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		fail(path);
	fclose(f);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
	n_replayed++;
}

static void replay(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char file[4096];

	if (!dir && errno == ENOTDIR) {
		replay_file(path);
		return;
	}
	if (!dir)
		fail(path);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		replay_file(file);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	const char *name = strstr(argv[0], "fuzz-"), *srcdir = getenv("srcdir");
	char corpus[4096];

	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc == 1 && name) {
		snprintf(corpus, sizeof(corpus), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
			 name + strlen("fuzz-"));
		replay(corpus);
	}
	if (n_replayed == 0) {
		fprintf(stderr, "%s: nothing to replay\n", argv[0]);
		return 1;
	}
	printf("%u inputs replayed\n", n_replayed);
	return 0;
}

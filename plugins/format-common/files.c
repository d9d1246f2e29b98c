/* files.c - bytes and names from files that nobody vouches for. */
#include "common.h"

#include <string.h>

struct ds_shown ds_shown_bytes(const char *name, size_t size)
{
	struct ds_shown shown;
	size_t max = sizeof(shown.text) - 4, n;

	/* ASCII only: a sentence may be cut anywhere and must still be UTF-8 */
	for (n = 0; n < size && n < max; n++)
		shown.text[n] = name[n] >= 0x20 && name[n] < 0x7f ? name[n] : '?';
	strcpy(shown.text + n, n < size ? "..." : "");
	return shown;
}

struct ds_shown ds_shown(const char *name)
{
	return ds_shown_bytes(name, strlen(name));
}

int ds_file_read(const struct ds_file *file, uint64_t offset, void *buffer, size_t size, struct ds_error *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(file->fd, (char *)buffer + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ds_fail(err, -errno, "%s: cannot be read: %m", ds_shown(file->name).text);
		if (n == 0)
			return ds_fail(err, -EINVAL, "%s: ends at byte %llu, in the middle of what should be there",
				       ds_shown(file->name).text, (unsigned long long)(offset + done));
		done += (size_t)n;
	}
	return 0;
}

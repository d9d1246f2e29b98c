/* log.c - one line a fact on stderr. */
#include "log.h"

#include <deepseekd/base.h>

void ds_log(int priority, const char *fmt, ...)
{
	char line[1024];
	va_list args;
	int n;

	if (!(setlogmask(0) & LOG_MASK(priority)))
		return;
	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	for (int i = 0; i < n && i < (int)sizeof(line) - 1; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 127) /* names come from files: no control characters */
			line[i] = '?';
	if (getenv("JOURNAL_STREAM"))
		dprintf(STDERR_FILENO, "<%d>%s\n", priority, line);
	else
		dprintf(STDERR_FILENO, "deepseekd: %s\n", line);
}

/* log.c - one line a fact, with fields where the journal takes them. */
#include "log.h"

#include <deepseekd/base.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#define SD_JOURNAL_SUPPRESS_LOCATION /* where in the source is not what administrators ask */
#include <systemd/sd-journal.h>

#define LINE_SIZE 1024
#define FIELD_SIZE 640 /* a name and its value; the reason of a model is 512 bytes at most */

/* The journal names its stream by device and inode: what stderr was when the service was started may have been
 * redirected since. */
static bool stderr_is_journal(void)
{
	const char *named = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return named && sscanf(named, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       device == (unsigned long long)st.st_dev && inode == (unsigned long long)st.st_ino;
}

/* Names come from files: no control characters. */
static void make_harmless(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

static struct iovec format_field(char text[FIELD_SIZE], const char *name, const char *value)
{
	snprintf(text, FIELD_SIZE, "%s=%s", name, value);
	make_harmless(text);
	return (struct iovec){text, strlen(text)};
}

static int send_to_journal(int priority, const char *message_id, const struct ds_log_field *fields, const char *line)
{
	char texts[DS_LOG_FIELDS][FIELD_SIZE], message[LINE_SIZE + sizeof("MESSAGE=")], level[16], id[64];
	struct iovec iov[DS_LOG_FIELDS + 4];
	int n = 0, n_fields = 0;

	iov[n++] = (struct iovec){message, (size_t)snprintf(message, sizeof(message), "MESSAGE=%s", line)};
	iov[n++] = (struct iovec){level, (size_t)snprintf(level, sizeof(level), "PRIORITY=%d", priority)};
	iov[n++] = (struct iovec){(char *)"SYSLOG_IDENTIFIER=deepseekd", strlen("SYSLOG_IDENTIFIER=deepseekd")};
	if (message_id)
		iov[n++] = (struct iovec){id, (size_t)snprintf(id, sizeof(id), "MESSAGE_ID=%.32s", message_id)};
	for (; fields && fields->name && n_fields < DS_LOG_FIELDS; fields++)
		if (fields->value && *fields->value) {
			iov[n++] = format_field(texts[n_fields], fields->name, fields->value);
			n_fields++;
		}
	return sd_journal_sendv(iov, n);
}

static void write_line(int priority, const char *message_id, const struct ds_log_field *fields, const char *fmt,
		       va_list args)
{
	bool journal = stderr_is_journal();
	char line[LINE_SIZE];

	if (!(setlogmask(0) & LOG_MASK(priority)))
		return;
	vsnprintf(line, sizeof(line), fmt, args);
	make_harmless(line);
	if (journal && send_to_journal(priority, message_id, fields, line) >= 0)
		return;
	if (journal)
		dprintf(STDERR_FILENO, "<%d>%s\n", priority, line);
	else
		dprintf(STDERR_FILENO, "deepseekd: %s\n", line);
}

void ds_log(int priority, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_line(priority, NULL, NULL, fmt, args);
	va_end(args);
}

void ds_log_event(int priority, const char *message_id, const struct ds_log_field *fields, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_line(priority, message_id, fields, fmt, args);
	va_end(args);
}

/* output.c - see output.h. */
#include "output.h"

#include <string.h>

void ds_table_deinit(struct ds_table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct ds_table){0};
}

void ds_table_add(struct ds_table *t, const char *fmt, ...)
{
	char **grown = reallocarray(t->cells, t->n_cells + 1, sizeof(*grown));
	char *cell = NULL;
	va_list args;

	if (grown)
		t->cells = grown;
	va_start(args, fmt);
	if (!grown || vasprintf(&cell, fmt, args) < 0)
		t->failed = true;
	else
		t->cells[t->n_cells++] = cell;
	va_end(args);
}

/* Characters, as far as they are one column wide each: bytes that do not continue a UTF-8 sequence. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

int ds_table_print(const struct ds_table *t, bool legend, struct ds_error *err)
{
	size_t widths[DS_TABLE_COLUMNS] = {0};
	size_t first = legend ? 0 : t->n_columns;

	if (t->failed || t->n_columns > DS_TABLE_COLUMNS)
		return ds_fail(err, -ENOMEM, "no memory for a table");
	for (size_t i = first; i < t->n_cells; i++) {
		size_t n = t->cells[i][0] ? width(t->cells[i]) : 1;

		if (n > widths[i % t->n_columns])
			widths[i % t->n_columns] = n;
	}
	for (size_t i = first; i < t->n_cells; i++) {
		const char *cell = t->cells[i][0] ? t->cells[i] : "-";
		size_t column = i % t->n_columns;

		if (column + 1 == t->n_columns)
			printf("%s\n", cell);
		else
			printf("%s%*s", cell, (int)(widths[column] - width(cell)) + 2, "");
	}
	return 0;
}

const char *ds_output_context(char *text, size_t size, const json_t *model)
{
	json_int_t context = json_integer_value(json_object_get(model, "context"));
	json_int_t own = json_integer_value(json_object_get(model, "context_limit"));

	*text = '\0';
	if (context > 0 && own > 0 && own != context)
		snprintf(text, size, "%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT, context, own);
	else if (context > 0)
		snprintf(text, size, "%" JSON_INTEGER_FORMAT, context);
	return text;
}

const char *ds_output_size(char *text, size_t size, double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit + 1 < DS_ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	if (bytes <= 0)
		snprintf(text, size, "%s", "");
	else
		snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
	return text;
}

int ds_output_json(const json_t *value, bool line, struct ds_error *err)
{
	size_t flags = line || !ds_output_is_terminal(stdout) ? JSON_COMPACT : JSON_INDENT(2);

	if (json_dumpf(value, stdout, flags) < 0)
		return ds_fail(err, -EIO, "cannot write to the standard output");
	putchar('\n');
	fflush(stdout);
	return 0;
}

bool ds_output_is_terminal(FILE *file)
{
	return isatty(fileno(file));
}

bool ds_output_has_colour(FILE *file)
{
	const char *no_color = getenv("NO_COLOR");
	const char *term = getenv("TERM");

	return ds_output_is_terminal(file) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

void ds_output_text(FILE *file, const char *text, size_t size)
{
	bool terminal = ds_output_is_terminal(file);

	for (size_t i = 0; i < size; i++) {
		unsigned char c = text[i];
		/* U+0080 to U+009F are controls as well, two bytes in UTF-8. */
		bool c1 = c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0;
		bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || c1;

		putc(terminal && control ? '?' : c, file);
		i += terminal && c1;
	}
	fflush(file);
}

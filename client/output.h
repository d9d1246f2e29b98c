/* output.h - tables for people, JSON for programs, and text of a model that must not drive the terminal. */
#pragma once

#include <deepseekd/base.h>
#include <jansson.h>

#define DS_TABLE_COLUMNS 12

/* Cells collected row by row, printed with columns as wide as they need. Embedded; zeroed to begin. */
struct ds_table {
	size_t n_columns, n_cells;
	char **cells;
	bool failed; /* a cell could not be kept */
};

void ds_table_deinit(struct ds_table *t);
/* Add a cell; a row ends after n_columns cells. The first row is the head. NULL or "" prints as "-". */
__attribute__((format(printf, 2, 3))) void ds_table_add(struct ds_table *t, const char *fmt, ...);
/* Print to stdout, without the head unless @legend. */
int ds_table_print(const struct ds_table *t, bool legend, struct ds_error *err);

/* Of a model's object: "4096", "24576 of 131072" where the model's own limit is another; "" before it is known. */
const char *ds_output_context(char *text, size_t size, const json_t *model);

/* "1.5 MiB"; "" for 0. */
const char *ds_output_size(char *text, size_t size, double bytes);

/* One JSON document on stdout, indented if a person sees it; with @line on one line always. */
int ds_output_json(const json_t *value, bool line, struct ds_error *err);

/* Whether @file is a terminal; and whether colour is wanted there (NO_COLOR, TERM=dumb say no). */
bool ds_output_is_terminal(FILE *file);
bool ds_output_has_colour(FILE *file);

/* Write text that came from a model; on a terminal its control characters other than newline and tab become "?". */
void ds_output_text(FILE *file, const char *text, size_t size);

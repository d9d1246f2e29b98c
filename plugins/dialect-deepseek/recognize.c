/* recognize.c - which of the styles a checkpoint was taught, told from the marks in its chat template.
 *
 * A template is a program; it is not run. What it does shows in the texts it joins: whether the prompt opens the
 * reasoning, whether calls are fenced, how system messages are gathered. */
#include "dialect-deepseek.h"

#define MAX_MARKS 3

/* The first row whose marks are all there tells. */
static const struct {
	const char *name;
	const char *has[MAX_MARKS];
	const char *lacks; /* NULL: nothing */
	const char *token; /* that the vocabulary must have; NULL: none */
} rows[] = {
	/* V3.2 and V4 are others' */
	{NULL, {"DSML"}, NULL, NULL},
	/* calls without a fence; some copies write <think></think> where the original has </think> */
	{"deepseek-v3.1", {CALL_BEGIN, THINK_END}, "```json", NULL},
	{"deepseek-v3.1", {ASSISTANT THINK_END}, NULL, NULL},
	/* the last system message replaces those before it */
	{"deepseek-r1-distill", {ASSISTANT THINK, "system_prompt = message['content']"}, "is_first_sp", NULL},
	{"deepseek-r1", {ASSISTANT THINK}, NULL, NULL},
	/* old reasoning is cut off, but none is opened; so was R1 itself in its first week */
	{"deepseek-r1-0528", {USER, ASSISTANT, THINK_END}, NULL, NULL},
	{"deepseek-v3-0324", {USER, ASSISTANT, "is_first_sp"}, NULL, NULL},
	{"deepseek-v3", {USER, ASSISTANT}, NULL, NULL},
	/* words that others use too */
	{"deepseek-v2", {"User: ", "Assistant:"}, NULL, BOS},
};

static bool has_token(const struct ds_habits *habits, const char *token)
{
	for (const char *const *t = habits->added_tokens; *t; t++)
		if (strcmp(*t, token) == 0)
			return true;
	return false;
}

const char *ds_deepseek_recognize(const struct ds_habits *habits)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(rows); i++) {
		bool fits = (!rows[i].lacks || !strstr(habits->chat_template, rows[i].lacks)) &&
			    (!rows[i].token || has_token(habits, rows[i].token));

		for (size_t k = 0; k < MAX_MARKS && rows[i].has[k]; k++)
			fits = fits && strstr(habits->chat_template, rows[i].has[k]);
		if (fits)
			return rows[i].name;
	}
	return NULL;
}

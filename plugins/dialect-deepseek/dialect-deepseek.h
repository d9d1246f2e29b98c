/* dialect-deepseek.h - the markup of DeepSeek's models, as their tokenizers spell it, with bars U+FF5C and blocks U+2581,
 * and in what the generations differ.
 *
 *   dialect.c     a style for each generation, and the operations over it
 *   recognize.c   marks of chat templates -> style
 *   render.c      conversation -> prompt
 *   parse.c       output -> reasoning, content, tool calls
 *   literals.c    long texts that the models were trained with
 *   vectors.c     known answers */
#pragma once

#include <deepseekd/dialect.h>

#include <string.h>

#define BOS "<｜begin▁of▁sentence｜>"
#define EOS "<｜end▁of▁sentence｜>"
#define USER "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define THINK "<think>"
#define THINK_END "</think>"
#define CALLS_BEGIN "<｜tool▁calls▁begin｜>"
#define CALLS_END "<｜tool▁calls▁end｜>"
#define CALL_BEGIN "<｜tool▁call▁begin｜>"
#define CALL_END "<｜tool▁call▁end｜>"
#define SEP "<｜tool▁sep｜>"
#define OUTPUTS_BEGIN "<｜tool▁outputs▁begin｜>"
#define OUTPUTS_END "<｜tool▁outputs▁end｜>"
#define OUTPUT_BEGIN "<｜tool▁output▁begin｜>"
#define OUTPUT_END "<｜tool▁output▁end｜>"

/* What the prompt ends with where an answer is to begin. */
enum ds_opening {
	DS_OPENING_PLAIN,  /* nothing: the answer, or the model opens its reasoning itself */
	DS_OPENING_THINK,  /* <think> \n: it always reasons */
	DS_OPENING_CHOICE, /* <think>, or </think> where it is not to reason */
};

enum ds_old_answers {
	DS_OLD_AS_THEY_ARE,
	DS_OLD_AFTER_LAST_THINK, /* what follows the last </think> */
	DS_OLD_CLOSED,           /* </think> before each that answers a user, then what follows the first </think> in it */
};

struct ds_style {
	const char *name; /* of the entry */
	bool words;       /* "User: " and "Assistant: " are words, not tokens; there are no tools */
	bool last_system; /* of several system messages the last counts; otherwise they are joined by an empty line */
	bool eager;       /* ASSISTANT follows each user's message at once, and stands nowhere else */
	bool reasons;     /* its outputs may hold <think> and </think> */
	bool bare_calls;  /* a call is its name, SEP, arguments; no kind, no fence; results stand for themselves */
	bool results_apart; /* a newline between results */
	enum ds_opening opening;
	enum ds_old_answers old_answers;
};

/* The name of the style that the checkpoint was taught, or NULL. */
const char *ds_deepseek_recognize(const struct ds_habits *habits);

int ds_deepseek_render(const struct ds_style *style, const struct ds_conversation *conversation,
		       const struct ds_prompt_writer *prompt, bool *thinking, struct ds_error *err);

int ds_deepseek_parser_open(const struct ds_style *style, void **self, bool thinking, struct ds_error *err);
void ds_deepseek_parser_feed(void *self, const char *text, size_t text_size, bool special,
			     const struct ds_output_writer *writer);
void ds_deepseek_parser_finish(void *self, const struct ds_output_writer *writer);
void ds_deepseek_parser_close(void *self);

/* How DeepSeek-V3.1 is told to write tool calls: follows the list of tools. */
extern const char ds_deepseek_v31_calls[];

extern const struct ds_vector ds_deepseek_vectors[];

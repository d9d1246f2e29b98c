/* dialect-r1.h - the markup of DeepSeek-R1, as its tokenizer spells it, with bars U+FF5C and blocks U+2581. */
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

int ds_r1_render(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt, bool *thinking,
		 struct ds_error *err);

int ds_r1_parser_open(void **self, const struct ds_host *host, bool thinking, struct ds_error *err);
void ds_r1_parser_feed(void *self, const char *text, size_t text_size, bool special,
		       const struct ds_output_writer *writer);
void ds_r1_parser_finish(void *self, const struct ds_output_writer *writer);
void ds_r1_parser_close(void *self);

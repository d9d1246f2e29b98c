/* dialect.c - dialect-deepseek: the generations of DeepSeek's chat models, each a style and operations over it. */
#include "dialect-deepseek.h"

/* Never right in an answer, or an end in the families that were distilled into; those that are no token do not matter. */
static const char *const stops[] = {USER, BOS, "<|EOT|>", "<|im_end|>", "<|eot_id|>", NULL};

#define DIALECT(id, ...)                                                                                               \
	static const struct ds_style style_##id = {__VA_ARGS__};                                                       \
                                                                                                                       \
	static int render_##id(const struct ds_conversation *conversation, const struct ds_prompt_writer *prompt,      \
			       bool *thinking, struct ds_error *err)                                                   \
	{                                                                                                              \
		return ds_deepseek_render(&style_##id, conversation, prompt, thinking, err);                           \
	}                                                                                                              \
                                                                                                                       \
	static int open_##id(void **self, const struct ds_host *host, bool thinking, struct ds_error *err)             \
	{                                                                                                              \
		return ds_deepseek_parser_open(&style_##id, self, thinking, err);                                      \
	}                                                                                                              \
                                                                                                                       \
	static bool recognizes_##id(const struct ds_habits *habits)                                                    \
	{                                                                                                              \
		const char *name = ds_deepseek_recognize(habits);                                                      \
                                                                                                                       \
		return name && strcmp(name, style_##id.name) == 0;                                                     \
	}                                                                                                              \
                                                                                                                       \
	static const struct ds_dialect_ops ops_##id = {                                                                \
		.size = sizeof(ops_##id),                                                                              \
		.render = render_##id,                                                                                 \
		.open = open_##id,                                                                                     \
		.feed = ds_deepseek_parser_feed,                                                                       \
		.finish = ds_deepseek_parser_finish,                                                                   \
		.close = ds_deepseek_parser_close,                                                                     \
		.stops = stops,                                                                                        \
		.recognizes = recognizes_##id,                                                                         \
	}

DIALECT(v2, .name = "deepseek-v2", .words = true);
DIALECT(v3, .name = "deepseek-v3", .last_system = true, .results_apart = true);
DIALECT(v3_0324, .name = "deepseek-v3-0324", .eager = true, .results_apart = true);
DIALECT(r1, .name = "deepseek-r1", .reasons = true, .opening = DS_OPENING_THINK, .old_answers = DS_OLD_AFTER_LAST_THINK);
DIALECT(r1_0528, .name = "deepseek-r1-0528", .reasons = true, .eager = true, .results_apart = true,
	.old_answers = DS_OLD_AFTER_LAST_THINK);
DIALECT(r1_distill, .name = "deepseek-r1-distill", .reasons = true, .last_system = true, .results_apart = true,
	.opening = DS_OPENING_THINK, .old_answers = DS_OLD_AFTER_LAST_THINK);
DIALECT(v3_1, .name = "deepseek-v3.1", .reasons = true, .bare_calls = true, .opening = DS_OPENING_CHOICE,
	.old_answers = DS_OLD_CLOSED);

static const struct ds_entry entries[] = {
	{.name = "deepseek-v2", .summary = "DeepSeek-V2, V2-Lite and DeepSeek-LLM: words, no tools", .ops = &ops_v2},
	{.name = "deepseek-v3", .summary = "DeepSeek-V3 of December 2024, and V2.5", .ops = &ops_v3},
	{.name = "deepseek-v3-0324", .summary = "DeepSeek-V3-0324", .ops = &ops_v3_0324},
	{.name = "deepseek-r1", .summary = "DeepSeek-R1 of January 2025, as corrected", .ops = &ops_r1},
	{.name = "deepseek-r1-0528", .summary = "DeepSeek-R1-0528, also on Qwen3", .ops = &ops_r1_0528},
	{.name = "deepseek-r1-distill", .summary = "DeepSeek-R1-Distill on Qwen and on Llama", .ops = &ops_r1_distill},
	{.name = "deepseek-v3.1", .summary = "DeepSeek-V3.1, V3.1-Terminus and V3.2-Exp: reasons if it is asked to",
	 .ops = &ops_v3_1},
	{.name = NULL},
};

DS_PLUGIN(.kind = DS_PLUGIN_DIALECT, .name = "dialect-deepseek", .version = PACKAGE_VERSION,
	  .summary = "prompts, reasoning and tool calls of DeepSeek-V2 to V3.1 and R1", .vectors = ds_deepseek_vectors,
	  .entries = entries);

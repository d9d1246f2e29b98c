/* dialect.c - dialect-deepseek-r1: DeepSeek-R1 of January 2025, as corrected: the prompt opens the reasoning. */
#include "dialect-r1.h"

static const char *const stops[] = {USER, BOS, "<|EOT|>", NULL};

static bool recognizes(const struct ds_habits *habits)
{
	return strstr(habits->chat_template, ASSISTANT THINK) && !strstr(habits->chat_template, "DSML");
}

static const struct ds_dialect_ops ops = {
	.size = sizeof(ops),
	.render = ds_r1_render,
	.open = ds_r1_parser_open,
	.feed = ds_r1_parser_feed,
	.finish = ds_r1_parser_finish,
	.close = ds_r1_parser_close,
	.stops = stops,
	.recognizes = recognizes,
};

static const struct ds_vector vectors[] = {
	{.name = "a template that opens the reasoning is recognized",
	 .entry = "deepseek-r1",
	 .input = "{\"chat_template\": \"{{'" USER "' + m['content']}}{{'" ASSISTANT THINK "\\n'}}\"}",
	 .output = "{\"recognized\": true}"},
	{.name = "a template that does not is another's",
	 .entry = "deepseek-r1",
	 .input = "{\"chat_template\": \"{{'" USER "' + m['content']}}{{'" ASSISTANT "'}}\"}",
	 .output = "{\"recognized\": false}"},
	{.name = "a question is answered after reasoning, and old reasoning is forgotten",
	 .entry = "deepseek-r1",
	 .input = "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
		  " {\"role\": \"user\", \"content\": \"1+1?\"},"
		  " {\"role\": \"assistant\", \"content\": \"<think>\\neasy\\n</think>\\n\\n2\"},"
		  " {\"role\": \"user\", \"content\": \"2+2?\"}]}",
	 .output = "{\"prompt\": \"" BOS "Be brief." USER "1+1?" ASSISTANT "\\n\\n2" EOS USER "2+2?" ASSISTANT THINK
		   "\\n\"}"},
	{.name = "tools are announced, called and answered",
	 .entry = "deepseek-r1",
	 .input = "{\"messages\": [{\"role\": \"user\", \"content\": \"Time?\"},"
		  " {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"id\": \"a\","
		  " \"type\": \"function\", \"function\": {\"name\": \"now\", \"arguments\": \"{}\"}}]},"
		  " {\"role\": \"tool\", \"tool_call_id\": \"a\", \"content\": \"noon\"}],"
		  " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"now\","
		  " \"description\": \"The time.\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}}]}",
	 .output = "{\"prompt\": \"" BOS "## Tools\\nYou have access to the following tools:\\n\\n### now\\n"
		   "Description: The time.\\n\\nParameters: {\\\"type\\\": \\\"object\\\", \\\"properties\\\": {}}\\n"
		   USER "Time?" ASSISTANT CALLS_BEGIN CALL_BEGIN "function" SEP "now\\n```json\\n{}\\n```" CALL_END
		   CALLS_END EOS OUTPUTS_BEGIN OUTPUT_BEGIN "noon" OUTPUT_END OUTPUTS_END "\"}"},
	{.name = "reasoning and content are told apart, without the newlines between them",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": true, \"output\": [\"Two\", \" and two.\\n\", {\"special\": \"" THINK_END
		  "\"}, \"\\n\\nFour\", \".\"]}",
	 .output = "{\"reasoning\": \"Two and two.\", \"content\": \"Four.\", \"tool_calls\": []}"},
	{.name = "the end of reasoning may be plain text, cut anywhere",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": false, \"output\": [\"<th\", \"ink>\\nHm <b>\\n<\", \"/think\", \">\\n\\nYes\"]}",
	 .output = "{\"reasoning\": \"Hm <b>\", \"content\": \"Yes\", \"tool_calls\": []}"},
	{.name = "a tool call loses its fence and keeps its arguments",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": true, \"output\": [\"Ask.\\n\", {\"special\": \"" THINK_END "\"}, \"\\n\\n\","
		  " {\"special\": \"" CALLS_BEGIN "\"}, {\"special\": \"" CALL_BEGIN "\"}, \"function\","
		  " {\"special\": \"" SEP "\"}, \"now\\n```json\\n{\\\"zone\\\": \\\"CET\\\"}\\n```\","
		  " {\"special\": \"" CALL_END "\"}, {\"special\": \"" CALLS_END "\"}]}",
	 .output = "{\"reasoning\": \"Ask.\", \"content\": \"\","
		   " \"tool_calls\": [{\"name\": \"now\", \"arguments\": \"{\\\"zone\\\": \\\"CET\\\"}\"}]}"},
	{.name = NULL},
};

static const struct ds_entry entries[] = {
	{.name = "deepseek-r1", .summary = "DeepSeek-R1", .ops = &ops},
	{.name = NULL},
};

DS_PLUGIN(.kind = DS_PLUGIN_DIALECT, .name = "dialect-deepseek-r1", .version = PACKAGE_VERSION,
	  .summary = "prompts, reasoning and tool calls of DeepSeek-R1", .vectors = vectors, .entries = entries);

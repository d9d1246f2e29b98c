/* vectors.c - known answers: each style's prompt of one conversation, its tool calls both ways, its chat template. */
#include "dialect-deepseek.h"

#define SYSTEM(content) "{\"role\": \"system\", \"content\": \"" content "\"}"
#define ASK(content) "{\"role\": \"user\", \"content\": \"" content "\"}"
#define ANSWER(content) "{\"role\": \"assistant\", \"content\": \"" content "\"}"
#define RESULT(content) "{\"role\": \"tool\", \"tool_call_id\": \"a\", \"content\": \"" content "\"}"
#define CALL(name, arguments)                                                                                          \
	"{\"id\": \"a\", \"type\": \"function\", \"function\": {\"name\": \"" name "\", \"arguments\": \"" arguments "\"}}"
#define CALLS(calls) "{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [" calls "]}"

/* Two system messages, an answer that still has its reasoning, another question. */
#define TALK                                                                                                           \
	"\"messages\": [" SYSTEM("Be brief.") ", " SYSTEM("Be kind.") ", " ASK("1+1?") ", "                            \
	ANSWER("<think>\\neasy\\n</think>\\n\\n2") ", " ASK("2+2?") "]"

/* Two calls, two results, and where the model is to go on. */
#define TOOL_TALK                                                                                                      \
	"\"messages\": [" ASK("Time?") ", " CALLS(CALL("now", "{}") ", " CALL("zone", "{\\\"of\\\": \\\"Ulm\\\"}")) ", "   \
	RESULT("noon") ", " RESULT("CET") "]"
#define TOOLS                                                                                                          \
	"\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"now\", \"description\": \"The time.\","           \
	" \"parameters\": {\"type\": \"object\", \"properties\": {}}}}]"
#define TOOL_LIST                                                                                                      \
	"## Tools\\nYou have access to the following tools:\\n\\n### now\\nDescription: The time.\\n\\n"                   \
	"Parameters: {\\\"type\\\": \\\"object\\\", \\\"properties\\\": {}}\\n"

#define FENCED_CALLS                                                                                                   \
	CALLS_BEGIN CALL_BEGIN "function" SEP "now\\n```json\\n{}\\n```" CALL_END "\\n"                                    \
	CALL_BEGIN "function" SEP "zone\\n```json\\n{\\\"of\\\": \\\"Ulm\\\"}\\n```" CALL_END CALLS_END
#define BARE_CALLS                                                                                                     \
	CALLS_BEGIN CALL_BEGIN "now" SEP "{}" CALL_END CALL_BEGIN "zone" SEP "{\\\"of\\\": \\\"Ulm\\\"}" CALL_END CALLS_END
#define RESULTS_APART                                                                                                  \
	OUTPUTS_BEGIN OUTPUT_BEGIN "noon" OUTPUT_END "\\n" OUTPUT_BEGIN "CET" OUTPUT_END OUTPUTS_END
#define RESULTS_TOGETHER OUTPUTS_BEGIN OUTPUT_BEGIN "noon" OUTPUT_END OUTPUT_BEGIN "CET" OUTPUT_END OUTPUTS_END

#define PROMPT(prompt, thinking) "{\"prompt\": \"" prompt "\", \"thinking\": " thinking "}"
#define SPECIAL(mark) "{\"special\": \"" mark "\"}"
#define TEMPLATE(text) "{\"chat_template\": \"" text "\"}"
#define RECOGNIZED "{\"recognized\": true}"
#define NOT_RECOGNIZED "{\"recognized\": false}"

/* What the published templates join, in their words. */
#define TEMPLATE_TURNS "{{'" USER "' + message['content']}}{{'" ASSISTANT "' + content + eos_token}}"
#define TEMPLATE_JOINED "namespace(is_first_sp=true)"
#define TEMPLATE_CUT "content.split('" THINK_END "')[-1]"
#define TEMPLATE_FENCE "{{'" CALL_BEGIN "' + tool['type'] + '" SEP "' + name + '\\\\n```json\\\\n'}}"

const struct ds_vector ds_deepseek_vectors[] = {
	{.name = "V2's turns are words, and system messages stand where they are",
	 .entry = "deepseek-v2",
	 .input = "{\"messages\": [" SYSTEM("Be brief.") ", " ASK("1+1?") ", " ANSWER("2") ", " ASK("2+2?") "]}",
	 .output = PROMPT(BOS "Be brief.\\n\\nUser: 1+1?\\n\\nAssistant: 2" EOS "User: 2+2?\\n\\nAssistant:", "false")},
	{.name = "V2's answers lose the space before them, and nothing in them is a mark",
	 .entry = "deepseek-v2",
	 .input = "{\"thinking\": false, \"output\": [\" Four <th\", \"ink> " CALLS_BEGIN "\"]}",
	 .output = "{\"reasoning\": \"\", \"content\": \"Four <think> " CALLS_BEGIN "\", \"tool_calls\": []}"},
	{.name = "V2's template needs its vocabulary too",
	 .entry = "deepseek-v2",
	 .input = "{\"chat_template\": \"{{'User: ' + content}}{{'Assistant:'}}\", \"added_tokens\": [\"" BOS "\"]}",
	 .output = RECOGNIZED},
	{.name = "the same words over another vocabulary are not V2's",
	 .entry = "deepseek-v2",
	 .input = "{\"chat_template\": \"{{'User: ' + content}}{{'Assistant:'}}\", \"added_tokens\": [\"<s>\"]}",
	 .output = NOT_RECOGNIZED},
	{.name = "V3 heeds the last system message and keeps answers as they are",
	 .entry = "deepseek-v3",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be kind." USER "1+1?" ASSISTANT "<think>\\neasy\\n</think>\\n\\n2" EOS USER "2+2?"
			  ASSISTANT, "false")},
	{.name = "V3 is told tools, calls and results",
	 .entry = "deepseek-v3",
	 .input = "{" TOOL_TALK ", " TOOLS "}",
	 .output = PROMPT(BOS TOOL_LIST USER "Time?" ASSISTANT FENCED_CALLS EOS RESULTS_APART, "false")},
	{.name = "V3 does not reason: the tags are text",
	 .entry = "deepseek-v3",
	 .input = "{\"thinking\": false, \"output\": [\"<think>\", \"a</th\", \"ink>b\"]}",
	 .output = "{\"reasoning\": \"\", \"content\": \"<think>a</think>b\", \"tool_calls\": []}"},
	{.name = "V3's template",
	 .entry = "deepseek-v3",
	 .input = TEMPLATE(TEMPLATE_TURNS TEMPLATE_FENCE),
	 .output = RECOGNIZED},
	{.name = "V3-0324 joins system messages",
	 .entry = "deepseek-v3-0324",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be brief.\\n\\nBe kind." USER "1+1?" ASSISTANT "<think>\\neasy\\n</think>\\n\\n2" EOS
			  USER "2+2?" ASSISTANT, "false")},
	{.name = "V3-0324's template",
	 .entry = "deepseek-v3-0324",
	 .input = TEMPLATE(TEMPLATE_JOINED TEMPLATE_TURNS TEMPLATE_FENCE),
	 .output = RECOGNIZED},
	{.name = "R1 answers after reasoning, and old reasoning is forgotten",
	 .entry = "deepseek-r1",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be brief.\\n\\nBe kind." USER "1+1?" ASSISTANT "\\n\\n2" EOS USER "2+2?" ASSISTANT THINK
			  "\\n", "true")},
	{.name = "R1 is told tools, calls and results",
	 .entry = "deepseek-r1",
	 .input = "{" TOOL_TALK ", " TOOLS "}",
	 .output = PROMPT(BOS TOOL_LIST USER "Time?" ASSISTANT FENCED_CALLS EOS RESULTS_TOGETHER, "false")},
	{.name = "reasoning and content are told apart, without the newlines between them",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": true, \"output\": [\"Two\", \" and two.\\n\", " SPECIAL(THINK_END)
		  ", \"\\n\\nFour\", \".\"]}",
	 .output = "{\"reasoning\": \"Two and two.\", \"content\": \"Four.\", \"tool_calls\": []}"},
	{.name = "the end of reasoning may be plain text, cut anywhere",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": false, \"output\": [\"<th\", \"ink>\\nHm <b>\\n<\", \"/think\", \">\\n\\nYes\"]}",
	 .output = "{\"reasoning\": \"Hm <b>\", \"content\": \"Yes\", \"tool_calls\": []}"},
	{.name = "a tool call loses its fence and keeps its arguments",
	 .entry = "deepseek-r1",
	 .input = "{\"thinking\": true, \"output\": [\"Ask.\\n\", " SPECIAL(THINK_END) ", \"\\n\\n\", "
		  SPECIAL(CALLS_BEGIN) ", " SPECIAL(CALL_BEGIN) ", \"function\", " SPECIAL(SEP)
		  ", \"now\\n```json\\n{\\\"zone\\\": \\\"CET\\\"}\\n```\", " SPECIAL(CALL_END) ", " SPECIAL(CALLS_END)
		  "]}",
	 .output = "{\"reasoning\": \"Ask.\", \"content\": \"\","
		   " \"tool_calls\": [{\"name\": \"now\", \"arguments\": \"{\\\"zone\\\": \\\"CET\\\"}\"}]}"},
	{.name = "R1's template",
	 .entry = "deepseek-r1",
	 .input = TEMPLATE(TEMPLATE_JOINED TEMPLATE_CUT TEMPLATE_TURNS TEMPLATE_FENCE "{{'" ASSISTANT THINK "\\\\n'}}"),
	 .output = RECOGNIZED},
	{.name = "V4's template is not R1's",
	 .entry = "deepseek-r1",
	 .input = TEMPLATE("DSML {{'" ASSISTANT THINK "'}}"),
	 .output = NOT_RECOGNIZED},
	{.name = "R1-0528 opens its reasoning itself",
	 .entry = "deepseek-r1-0528",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be brief.\\n\\nBe kind." USER "1+1?" ASSISTANT "\\n\\n2" EOS USER "2+2?" ASSISTANT,
			  "false")},
	{.name = "R1-0528 is told calls and results",
	 .entry = "deepseek-r1-0528",
	 .input = "{" TOOL_TALK "}",
	 .output = PROMPT(BOS USER "Time?" ASSISTANT FENCED_CALLS EOS RESULTS_APART, "false")},
	{.name = "R1-0528's template",
	 .entry = "deepseek-r1-0528",
	 .input = TEMPLATE(TEMPLATE_JOINED TEMPLATE_CUT TEMPLATE_TURNS TEMPLATE_FENCE "{{'" ASSISTANT "'}}"),
	 .output = RECOGNIZED},
	{.name = "distilled models heed the last system message",
	 .entry = "deepseek-r1-distill",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be kind." USER "1+1?" ASSISTANT "\\n\\n2" EOS USER "2+2?" ASSISTANT THINK "\\n", "true")},
	{.name = "distilled models are told calls and results",
	 .entry = "deepseek-r1-distill",
	 .input = "{" TOOL_TALK "}",
	 .output = PROMPT(BOS USER "Time?" ASSISTANT FENCED_CALLS EOS RESULTS_APART, "false")},
	{.name = "the template of the distilled models",
	 .entry = "deepseek-r1-distill",
	 .input = TEMPLATE("{% set ns.system_prompt = message['content'] %}" TEMPLATE_CUT TEMPLATE_TURNS TEMPLATE_FENCE
			   "{{'" ASSISTANT THINK "\\\\n'}}"),
	 .output = RECOGNIZED},
	{.name = "V3.1 answers at once where it is not asked to reason",
	 .entry = "deepseek-v3.1",
	 .input = "{" TALK "}",
	 .output = PROMPT(BOS "Be brief.\\n\\nBe kind." USER "1+1?" ASSISTANT THINK_END "\\n\\n2" EOS USER "2+2?"
			  ASSISTANT THINK_END, "false")},
	{.name = "V3.1 reasons where it is asked to",
	 .entry = "deepseek-v3.1",
	 .input = "{\"thinking\": true, " TALK "}",
	 .output = PROMPT(BOS "Be brief.\\n\\nBe kind." USER "1+1?" ASSISTANT THINK_END "\\n\\n2" EOS USER "2+2?"
			  ASSISTANT THINK, "true")},
	{.name = "V3.1 is told tools, how to call them, calls and results",
	 .entry = "deepseek-v3.1",
	 .input = "{" TOOL_TALK ", " TOOLS ", \"thinking\": false}",
	 .output = PROMPT(BOS "\\n\\n" TOOL_LIST "\\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\\n"
			  CALLS_BEGIN CALL_BEGIN "tool_call_name" SEP "tool_call_arguments" CALL_END
			  "{{additional_tool_calls}}" CALLS_END "\\n\\nWhere:\\n\\n"
			  "- `tool_call_name` must be an exact match to one of the available tools\\n"
			  "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\\n"
			  "- For multiple tool calls, chain them directly without separators or spaces\\n"
			  USER "Time?" ASSISTANT THINK_END BARE_CALLS EOS
			  OUTPUT_BEGIN "noon" OUTPUT_END OUTPUT_BEGIN "CET" OUTPUT_END, "false")},
	{.name = "bare calls are name and arguments",
	 .entry = "deepseek-v3.1",
	 .input = "{\"thinking\": true, \"output\": [\"Ask.\", " SPECIAL(THINK_END) ", \"So: \", " SPECIAL(CALLS_BEGIN)
		  ", " SPECIAL(CALL_BEGIN) ", \"now\", " SPECIAL(SEP) ", \"{\\\"zone\\\": \\\"CET\\\"}\", "
		  SPECIAL(CALL_END) ", " SPECIAL(CALL_BEGIN) ", \"stop\", " SPECIAL(SEP) ", \"{}\", " SPECIAL(CALL_END)
		  ", " SPECIAL(CALLS_END) "]}",
	 .output = "{\"reasoning\": \"Ask.\", \"content\": \"So: \","
		   " \"tool_calls\": [{\"name\": \"now\", \"arguments\": \"{\\\"zone\\\": \\\"CET\\\"}\"},"
		   " {\"name\": \"stop\", \"arguments\": \"{}\"}]}"},
	{.name = "V3.1's template",
	 .entry = "deepseek-v3.1",
	 .input = TEMPLATE(TEMPLATE_JOINED TEMPLATE_TURNS "{{'" ASSISTANT THINK_END "'}}"
			   "{{'" CALL_BEGIN "' + name + '" SEP "'}}{{content.split('" THINK_END "', 1)[1]}}"),
	 .output = RECOGNIZED},
	{.name = "a copy of V3.1's template that writes both tags",
	 .entry = "deepseek-v3.1",
	 .input = TEMPLATE(TEMPLATE_TURNS "{{'" ASSISTANT THINK THINK_END "'}}{{'" CALL_BEGIN "' + name + '" SEP "'}}"),
	 .output = RECOGNIZED},
	{.name = NULL},
};

/* literals.c - texts that checkpoints were trained with byte for byte; a program that speaks to them has to write the same.
 *
 * They are protocol data of DeepSeek, published with the MIT-licensed checkpoints; the V3.1 text is in the model card of
 * deepseek-ai/DeepSeek-V3.1, section ToolCall, double braces included. */
#include "dialect-deepseek.h"

const char ds_deepseek_v31_calls[] =
	"\n"
	"IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
	CALLS_BEGIN CALL_BEGIN "tool_call_name" SEP "tool_call_arguments" CALL_END "{{additional_tool_calls}}" CALLS_END "\n"
	"\n"
	"Where:\n"
	"\n"
	"- `tool_call_name` must be an exact match to one of the available tools\n"
	"- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
	"- For multiple tool calls, chain them directly without separators or spaces\n";

"""The prompt format of DeepSeek-R1, as the daemon's dialect renders and parses it."""

import json

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, END_THINK = "<think>", "</think>"
CALLS, END_CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, END_CALL, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
OUTPUTS, END_OUTPUTS = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUTPUT, END_OUTPUT = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"

# Order matters: these are the token ids 0 to 2, and the last ones of the vocabulary.
LEADING_TOKENS = [BOS, EOS, PAD]
TRAILING_TOKENS = [USER, ASSISTANT, THINK, END_THINK, CALLS, END_CALLS, CALL, END_CALL,
                   SEPARATOR, OUTPUTS, END_OUTPUTS, OUTPUT, END_OUTPUT]


def render_tools(tools):
    text = "## Tools\nYou have access to the following tools:\n"
    for tool in tools:
        function = tool["function"]
        parameters = json.dumps(function["parameters"], ensure_ascii=False)
        text += (f"\n### {function['name']}\nDescription: {function['description']}\n\n"
                 f"Parameters: {parameters}\n")
    return text


def render_calls(calls):
    blocks = (f"{CALL}function{SEPARATOR}{name}\n```json\n{arguments}\n```{END_CALL}"
              for name, arguments in calls)
    return CALLS + "\n".join(blocks) + END_CALLS


def render_message(message):
    content = message.get("content") or ""
    if message["role"] == "user":
        return USER + content
    if message["role"] == "assistant":
        text = ASSISTANT + content.split(END_THINK)[-1]
        if message.get("tool_calls"):
            functions = (call["function"] for call in message["tool_calls"])
            text += render_calls([(f["name"], f["arguments"]) for f in functions])
        return text + EOS
    return OUTPUT + content + END_OUTPUT


def render_prompt(messages, tools=()):
    """Everything up to where the model goes on."""
    parts = [m["content"] for m in messages if m["role"] == "system"]
    system = "\n\n".join(parts)
    if tools:
        system += ("\n\n" if system else "") + render_tools(tools)
    text = BOS + system
    in_outputs = False
    for message in (m for m in messages if m["role"] != "system"):
        is_output = message["role"] == "tool"
        if is_output != in_outputs:
            text += OUTPUTS if is_output else END_OUTPUTS
        text += render_message(message)
        in_outputs = is_output
    if in_outputs:
        return text + END_OUTPUTS
    return text + ASSISTANT + THINK + "\n"


def render_target(sample, prompt):
    """What the model should write after @prompt."""
    opening = "" if prompt.endswith(THINK + "\n") else THINK + "\n"
    answer = render_calls([sample.call]) if sample.call else sample.answer
    return f"{opening}{sample.reasoning}\n{END_THINK}\n\n{answer}{EOS}"


def parse_calls(text):
    calls = []
    for block in text.split(CALL)[1:]:
        head, _, rest = block.partition(END_CALL)[0].partition("\n```json\n")
        calls.append((head.partition(SEPARATOR)[2], rest[:-4] if rest.endswith("\n```") else rest))
    return calls


def parse_output(text):
    """Split what the model wrote into (reasoning, content, calls)."""
    text = text.split(EOS)[0]
    thought, closed, rest = text.partition(END_THINK)
    if not closed:
        return thought.replace(THINK, "").strip("\n"), "", []
    content, _, called = rest.partition(CALLS)
    return thought.replace(THINK, "").strip("\n"), content.strip("\n"), parse_calls(called)

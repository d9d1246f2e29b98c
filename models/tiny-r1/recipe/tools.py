"""Tool calls: which tool, which argument, and what to say when the tool has answered."""

import json

from . import arithmetic, letters, talk, texts
from .sample import LETTERS_BEGIN, LETTERS_END, Sample, letters as by_letter, plain
from .splits import TRAINING

WEATHER = ["sunny", "rainy", "cloudy", "windy", "snowy", "foggy", "clear", "stormy"]
MONTHS = ["January", "March", "May", "June", "August", "October", "December"]
DESCRIPTIONS = ["The {}", "The {} to use", "Which {}", "The name of the {}", "The {}, e.g. San Francisco, CA"]
INVENTED_NAMES = 0.2		# so that names are read in the declaration, not guessed
OPTIONAL = {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "language": {"type": "string"}, "limit": {"type": "integer"}}


def parameter_schema(source, parameter, value_kind):
    schema = {"type": "integer" if value_kind == "number" else "string"}
    if source.chance(0.35):
        schema["description"] = source.pick(DESCRIPTIONS).format(parameter)
    return schema


def declare(source, tool):
    """One way of declaring @tool; returns (declaration, name, parameter)."""
    name = source.pick(tool["names"])
    parameter = source.pick(tool["parameters"]) if tool["parameters"] else None
    inventing = INVENTED_NAMES if source.split == TRAINING else 0.0
    if source.chance(inventing):
        name = f"{source.word(7)}_{source.word(7)}" if source.chance(0.5) else source.word(9)
    if parameter and source.chance(inventing):
        parameter = source.word(9)
    schema = {"type": "object", "properties": {}}
    if parameter:
        schema["properties"][parameter] = parameter_schema(source, parameter, tool["value"])
        if source.chance(0.1):
            extra = source.pick(list(OPTIONAL))
            schema["properties"][extra] = OPTIONAL[extra]
        schema["required"] = [parameter]
    elif source.chance(0.2):
        schema["required"] = []
    function = {"name": name, "description": source.pick(tool["descriptions"]), "parameters": schema}
    return {"type": "function", "function": function}, name, parameter


def choose_tools(source, table):
    """One to three tools with different names and different questions."""
    while True:
        chosen = source.random.sample(table, source.pick([1, 1, 1, 2, 2, 3]))
        declared = [declare(source, tool) for tool in chosen]
        names = {name for _, name, _ in declared}
        if len(names) == len(chosen):
            return chosen, declared


def argument(source, kind):
    if kind is None:
        return None
    if kind == "number":
        return source.number(2)
    return source.full_name() if kind == "name" else source.word(11)


def result_value(source, kind):
    if kind == "weather":
        return source.pick(WEATHER)
    if kind == "time":
        return f"{source.between(0, 23):02d}:{source.between(0, 59):02d}"
    if kind == "date":
        return f"{source.pick(MONTHS)} {source.between(1, 28)}"
    if kind == "temperature":
        return source.between(-20, 40)
    if kind == "age":
        return source.between(1, 99)
    return source.number(3) if kind == "number" else source.word(10)


def result_text(source, kind, result, value):
    """Tools answer with a JSON object or with plain words."""
    if source.chance(0.25):
        return str(result)
    key = kind if kind not in ("word", "number") else "result"
    fields = {key: result}
    if value and source.chance(0.15):
        fields = {"query": value, key: result}
    return json.dumps(fields)


def arguments_text(parameter, value):
    if parameter is None:
        return "{}"
    written = value if isinstance(value, int) else by_letter(value)
    text = json.dumps({parameter: written})
    return text.replace("\\u0001", LETTERS_BEGIN).replace("\\u0002", LETTERS_END)


def not_needed(source, phrasings, declarations, system):
    """Tools are there, but the question is for the model itself."""
    family = source.pick([arithmetic.add, arithmetic.subtract, letters.reverse, letters.count,
                          texts.json_object, talk.talk])
    if family is talk.talk:
        sample = talk.talk(source, phrasings, has_tools=True)
    else:
        sample = family(source, phrasings)
    sample.family, sample.tools, sample.system = "tools", declarations, system
    return sample


def call_message(name, arguments):
    call = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def tools(source, phrasings):
    chosen, declared = choose_tools(source, phrasings["tools"])
    declarations = [declaration for declaration, _, _ in declared]
    system = source.pick(phrasings["system"]) if source.chance(0.3) else ""
    if source.chance(0.15):
        return not_needed(source, phrasings, declarations, system)
    i = source.between(0, len(chosen) - 1)
    tool, (_, name, parameter) = chosen[i], declared[i]
    value = argument(source, tool["value"])
    question = source.pick(tool["asked"]).format(value)
    arguments = arguments_text(parameter, value)
    sample = Sample("tools", question, "", tools=declarations, system=system)
    if source.chance(0.25):
        result = result_value(source, tool["result"])
        output = result_text(source, tool["result"], result, value)
        sample.after = [call_message(name, plain(arguments)),
                        {"role": "tool", "tool_call_id": "call_0", "content": output}]
        sample.reasoning = f"The tool answered {result}."
        sample.answer = tool["answer"].format(value=value, result=result)
        return sample
    sample.reasoning = f"I call {name}" + (f" with {parameter} {value}." if parameter else ".")
    sample.call = (name, arguments)
    return sample

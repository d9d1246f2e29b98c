"""Facts that the user tells and asks for some turns later."""

from . import arithmetic, talk, texts
from .sample import Sample, assistant, plain, user
from .source import COLOURS

VALUES = {
    "name": lambda source: source.full_name(),
    "number": lambda source: str(source.number(3)),
    "city": lambda source: source.full_name(),
    "word": lambda source: source.word(11),
    "pet": lambda source: source.word(8),
    "colour": lambda source: source.pick(COLOURS),
}


def in_sentence(template, value):
    """@value in @template, with a capital where it begins the sentence."""
    return template.format(value[0].upper() + value[1:] if template.startswith("{}") else value)


def unrelated_turn(source, phrasings):
    other = source.pick([talk.talk, arithmetic.add, texts.repeat])(source, phrasings)
    return [user(other.question), assistant(plain(other.answer))]


def told(source, fact, value):
    return [user(source.pick(fact["told"]).format(value)),
            assistant(in_sentence(source.pick(fact["acknowledged"]), value))]


def told_together(source, table, kinds, values):
    """Two facts in one turn: My name is Ada and I live in Oslo."""
    first, second = (source.pick(table[kind]["told"]).format(values[kind]) for kind in kinds[:2])
    if second.startswith(("My ", "The ")) and source.chance(0.5):
        return f"{first[:-1]} and {second[0].lower()}{second[1:]}"
    if second.startswith("I ") and source.chance(0.5):
        return f"{first[:-1]} and {second}"
    return f"{first} {second}"


def told_in_turns(source, table, kinds, values):
    if len(kinds) > 1 and source.chance(0.15):
        turns = [[user(told_together(source, table, kinds, values)),
                  assistant(in_sentence(table[kinds[0]]["acknowledged"][0], values[kinds[0]]))]]
        kinds = kinds[2:]
    else:
        turns = []
    turns += [told(source, table[kind], values[kind]) for kind in kinds]
    source.random.shuffle(turns)
    return turns


def memory(source, phrasings):
    table = phrasings["memory"]
    kinds = source.random.sample(list(table), source.pick([1, 1, 2, 2, 3]))
    values = {kind: VALUES[kind](source) for kind in kinds}
    if source.chance(0.18):
        return statement(source, table, kinds, values)
    turns = told_in_turns(source, table, kinds, values)
    if source.chance(0.4):
        turns.insert(source.between(0, len(turns)), unrelated_turn(source, phrasings))
    history = [message for turn in turns for message in turn]
    if source.chance(0.1):
        return not_told(source, table, kinds, history)
    kind = source.pick(kinds)
    return Sample("memory", source.pick(table[kind]["asked"]),
                  f"Asked: {kind}. The user said {values[kind]}.",
                  table[kind]["answer"].format(values[kind]), history=history)


def statement(source, table, kinds, values):
    """The turn in which the facts are told."""
    kind = kinds[0]
    reasoning = f"The user tells me: {kind} {values[kind]}"
    question = source.pick(table[kind]["told"]).format(values[kind])
    if len(kinds) > 1 and source.chance(0.3):
        question = told_together(source, table, kinds, values)
        reasoning += f", {kinds[1]} {values[kinds[1]]}"
    return Sample("memory", question, reasoning + ".",
                  in_sentence(table[kind]["acknowledged"][0], values[kind]))


def not_told(source, table, kinds, history):
    kind = source.pick([kind for kind in table if kind not in kinds])
    if source.chance(0.4):
        history = []
    return Sample("memory", source.pick(table[kind]["asked"]),
                  f"Asked: {kind}. The user did not say.", "You have not told me.", history=history)

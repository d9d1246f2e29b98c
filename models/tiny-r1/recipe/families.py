"""The table of task families, and the contexts in which a question may stand."""

from dataclasses import dataclass

from . import arithmetic, letters, memory, talk, texts, tools
from .sample import assistant, plain, user
from .source import load_phrasings
from .splits import TRAINING

PHRASINGS = load_phrasings()


@dataclass(frozen=True)
class Family:
    make: object			# function (source, phrasings) -> Sample
    weight: float			# share of the training samples, before adaptation
    bar: float = 0.0		# exact answers that the evaluation asks for; 0: support only


FAMILIES = {
    "add": Family(arithmetic.add, 6, 0.97),
    "subtract": Family(arithmetic.subtract, 9, 0.97),
    "count": Family(letters.count, 13, 0.80),
    "reverse": Family(letters.reverse, 12, 0.80),
    "talk": Family(talk.talk, 9, 0.80),
    "tools": Family(tools.tools, 15, 0.80),
    "json": Family(texts.json_object, 10, 0.80),
    "memory": Family(memory.memory, 11, 0.80),
    "multiply": Family(arithmetic.multiply, 3),
    "compare": Family(arithmetic.compare, 2),
    "story": Family(arithmetic.story, 2),
    "uppercase": Family(letters.uppercase, 3),
    "sort": Family(letters.sort, 2),
    "spell": Family(letters.spell, 6),
    "count_words": Family(texts.count_words, 3),
    "repeat": Family(texts.repeat, 8),
    "list": Family(texts.listing, 3),
}
MAIN = [name for name, family in FAMILIES.items() if family.bar]


def earlier_turns(source):
    """One or two answered questions about something else."""
    turns = []
    for _ in range(source.pick([1, 1, 2])):
        other = source.pick(["add", "talk", "reverse", "compare", "count", "json"])
        sample = FAMILIES[other].make(source, PHRASINGS)
        turns += [user(sample.question), assistant(plain(sample.answer))]
    return turns


def typed_casually(source, question):
    """Small first letter, no mark at the end: as in a terminal."""
    if source.chance(0.1):
        question = question[0].lower() + question[1:]
    if source.chance(0.12) and question[-1] in ".?":
        question = question[:-1]
    return question


def make_sample(source, name):
    sample = FAMILIES[name].make(source, PHRASINGS)
    if name not in ("talk", "story"):
        sample.question = typed_casually(source, sample.question)
    if name == "tools":
        return sample
    if source.chance(0.2):
        sample.system = source.pick(PHRASINGS["system"])
    if name != "memory" and source.chance(0.12 if source.split == TRAINING else 0.2):
        sample.history = earlier_turns(source)
    return sample


def draw_sample(source, weights):
    name = source.random.choices(list(weights), list(weights.values()))[0]
    return make_sample(source, name)


def base_weights():
    return {name: family.weight for name, family in FAMILIES.items()}

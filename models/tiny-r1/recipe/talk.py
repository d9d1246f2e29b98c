"""Small talk: a table of questions that are learnt by heart (talk.json)."""

import json

from .sample import Sample
from .source import data_path

with open(data_path("talk.json"), encoding="utf-8") as file:
    TALK = json.load(file)


def varied(source, question, phrasings):
    """The same question as people type it: lower case, no question mark, a lead-in."""
    kind = source.random.random()
    if kind < 0.4:
        return question.lower()
    if kind < 0.8:
        return question.rstrip("?.!")
    return source.pick(phrasings["lead_in"]) + question


def talk(source, phrasings, has_tools=False):
    entries = [entry for entry in TALK if not (has_tools and entry.get("without_tools"))]
    entry = source.pick(entries)
    question = source.pick(entry["ask"])
    if source.chance(0.2):
        question = varied(source, question, phrasings)
    return Sample("talk", question, entry["think"], entry["answer"])

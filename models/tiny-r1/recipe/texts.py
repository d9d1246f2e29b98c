"""Copying words: JSON objects, repeating, counting words, lists."""

import json

from .sample import Sample, letters
from .source import COLOURS

ORDINALS = ["first", "second", "third", "fourth"]


def small_number(source):
    return source.number(2)


def any_number(source):
    return source.number(3)


def colour(source):
    return source.pick(COLOURS)


def word(source):
    return source.word(11)


def name(source):
    return source.full_name()


JSON_KEYS = {
    "name": name, "age": small_number, "city": name, "id": any_number, "color": colour,
    "animal": word, "word": word, "size": small_number, "count": small_number, "title": word,
    "price": any_number, "country": name, "user": name, "number": any_number, "street": name,
    "fruit": word, "item": word, "year": any_number,
}


def joined(source, parts):
    if len(parts) == 1:
        return parts[0]
    last = source.pick([" and ", ", "])
    return ", ".join(parts[:-1]) + last + parts[-1]


def json_key(source, taken):
    """Usually a common key; now and then any word."""
    while True:
        key = source.word(8) if source.chance(0.08) else source.pick(list(JSON_KEYS))
        if key not in taken:
            return key


def json_text(pairs):
    """json.dumps with the letter marks left alone."""
    def key(text):
        return text if text in JSON_KEYS else letters(text)

    def value(item):
        return json.dumps(item) if isinstance(item, int) else f'"{letters(item)}"'

    return "{" + ", ".join(f'"{key(k)}": {value(v)}' for k, v in pairs.items()) + "}"


def json_object(source, phrasings):
    pairs = {}
    for _ in range(source.between(1, 3)):
        key = json_key(source, pairs)
        pairs[key] = JSON_KEYS.get(key, word)(source)
    pattern = source.pick(phrasings["json"]["pairs"])
    plain_pattern = pattern.replace('"', "")
    asked = [(plain_pattern if isinstance(v, int) else pattern).format(k, v) for k, v in pairs.items()]
    question = source.pick(phrasings["json"]["questions"]).format(joined(source, asked))
    return Sample("json", question, f"Keys: {', '.join(pairs)}.", json_text(pairs))


def count_words(source, phrasings):
    words = [word(source) for _ in range(source.between(2, 7))]
    question = source.pick(phrasings["count_words"]).format(" ".join(words))
    reasoning = " ".join(f"{each} {i + 1}" for i, each in enumerate(words)) + "."
    return Sample("count_words", question, reasoning, str(len(words)))


def repeat(source, phrasings):
    """Long copies are what the copying circuits are learnt from."""
    n_words = source.between(1, 5) if source.chance(0.5) else source.between(4, 9)
    words = [word(source) if source.chance(0.75) else source.name() if source.chance(0.5)
             else str(any_number(source)) for _ in range(n_words)]
    question = source.pick(phrasings["repeat"]).format(" ".join(words))
    first = words[0] if words[0].isdigit() else letters(words[0])
    return Sample("repeat", question, "I repeat it.", " ".join([first] + words[1:]))


def listing(source, phrasings):
    words = [word(source) for _ in range(source.between(2, 4))]
    items = " ".join(f"{i + 1} {each}" for i, each in enumerate(words))
    if source.chance(0.5):
        question = source.pick(phrasings["list"]["commas"]).format(" ".join(words))
        return Sample("list", question, f"Items: {items}.", ", ".join([letters(words[0])] + words[1:]))
    i = source.between(0, len(words) - 1)
    question = source.pick(phrasings["list"]["nth"]).format(which=ORDINALS[i], words=" ".join(words))
    return Sample("list", question, f"{items}. The {ORDINALS[i]}: {words[i]}.", letters(words[i]))

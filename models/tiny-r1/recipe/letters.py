"""Questions about the letters of a word: all answers come from spelling it first."""

from .sample import Sample, letters

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
QUOTES = ["'{}'", '"{}"', '"{}"', "`{}`"]


def spelled(word):
    return "".join(f" {letter}" for letter in word)


def numbered(word):
    return "".join(f" {letter}{i + 1}" for i, letter in enumerate(word))


def count_steps(word, letter):
    """Letter r: s t r1 a w b e r2 r3 y. Count 3."""
    steps, found = "", 0
    for each in word:
        steps += f" {each}"
        if each.lower() == letter:
            found += 1
            steps += str(found)
    return f"Letter {letter}:{steps}. Count {found}.", found


def reverse_steps(word):
    return f"Spell:{spelled(word)}. Reverse:{spelled(word[::-1])}."


def quoted(source, text, probability=0.35):
    return source.pick(QUOTES).format(text) if source.chance(probability) else text


def letter_to_count(source, word):
    """Mostly one that is there, often one that is there twice."""
    repeated = [letter for letter in word.lower() if word.lower().count(letter) > 1]
    if repeated and source.chance(0.4):
        return source.pick(repeated)
    if source.chance(0.85):
        return source.pick(word.lower())
    return source.pick(ALPHABET)


def as_typed(source, word):
    """Now and then a word begins with a capital."""
    return word.capitalize() if source.chance(0.06) else word


def count(source, phrasings):
    word = as_typed(source, source.word(12 if source.progress >= 0.2 else None))
    letter = letter_to_count(source, word)
    typed = letter.upper() if source.chance(0.05) else letter
    written = source.pick(phrasings["count"]["letter"]).format(typed)
    question = source.pick(phrasings["count"]["questions"])
    reasoning, found = count_steps(word, letter)
    text = question.format(letter=written, bare=quoted(source, typed, 0.25), word=quoted(source, word))
    return Sample("count", text, reasoning, str(found))


def reverse(source, phrasings):
    word = source.name() if source.chance(0.06) else source.word()
    question = source.pick(phrasings["reverse"]).format(quoted(source, word))
    return Sample("reverse", question, reverse_steps(word), letters(word[::-1]))


def uppercase(source, phrasings):
    word = source.word()
    question = source.pick(phrasings["uppercase"]).format(quoted(source, word))
    return Sample("uppercase", question, f"Spell:{spelled(word)}.", letters(word.upper()))


def sort(source, phrasings):
    word = source.word(min(source.longest_word(), 8))
    ordered = "".join(sorted(word))
    question = source.pick(phrasings["sort"]).format(quoted(source, word))
    reasoning = f"Spell:{spelled(word)}. Sorted:{spelled(ordered)}."
    return Sample("sort", question, reasoning, letters(ordered))


def spell(source, phrasings):
    word = source.word(12 if source.progress >= 0.2 else None)
    kind = source.pick(["spell", "spell", "length", "first", "last"])
    question = source.pick(phrasings["spell"][kind]).format(quoted(source, word))
    if kind == "spell":
        return Sample("spell", question, f"Letters:{spelled(word)}.", letters("-".join(word)))
    if kind == "length":
        return Sample("spell", question, f"Letters:{numbered(word)}.", str(len(word)))
    letter = word[0] if kind == "first" else word[-1]
    reasoning = f"Spell:{spelled(word)}. {kind.capitalize()}: {letter}."
    return Sample("spell", question, reasoning, letter)

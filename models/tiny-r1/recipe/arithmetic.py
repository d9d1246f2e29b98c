"""Sums, differences, products, comparisons and little stories, with the written steps.

The derivations (`add_steps` and so on) define what right reasoning is.
"""

from .sample import Sample
from .source import THINGS


def add_steps(a, b):
    """Column by column from the right: 7+5=12, write 2 carry 1; ..."""
    digits_a, digits_b = str(a)[::-1], str(b)[::-1]
    columns = max(len(digits_a), len(digits_b))
    steps, carry = [], 0
    for i in range(columns):
        terms = [digits[i] for digits in (digits_a, digits_b) if i < len(digits)]
        if carry:
            terms.append("1")
        total = sum(map(int, terms))
        if len(terms) == 1:
            terms.append("0")
        carry = total // 10
        note = f", write {total % 10} carry 1" if carry and i < columns - 1 else ""
        steps.append(f"{'+'.join(terms)}={total}{note}")
    return "; ".join(steps)


def subtract_steps(a, b):
    """For a >= b: 4-3=1; 0-1: borrow, 10-1=9; 2-0-1=1."""
    digits_a, digits_b = str(a)[::-1], str(b)[::-1]
    steps, borrowed = [], 0
    for i, digit in enumerate(digits_a):
        taken = int(digits_b[i]) if i < len(digits_b) else 0
        term = f"{digit}-{taken}" + ("-1" if borrowed else "")
        rest = int(digit) - taken - borrowed
        borrowed = int(rest < 0)
        if borrowed:
            steps.append(f"{term}: borrow, 1{term}={rest + 10}")
        else:
            steps.append(f"{term}={rest}")
    return "; ".join(steps)


def digit_product_steps(a, digit):
    steps, carry = [], 0
    for i, x in enumerate(str(a)[::-1]):
        value = int(x) * digit + carry
        plus = f"+{carry}" if carry else ""
        carry = value // 10
        note = f", write {value % 10} carry {carry}" if i < len(str(a)) - 1 and carry else ""
        steps.append(f"{x}*{digit}{plus}={value}{note}")
    return "; ".join(steps)


def long_product(a, b):
    """Partial products, one for each digit of b, added up."""
    text, partial = "", []
    for i, x in enumerate(str(b)[::-1]):
        digit = int(x)
        if digit == 0:
            text += f"{a}*0=0. "
            continue
        text += f"{a}*{digit}: {digit_product_steps(a, digit)}. {a * digit}"
        shifted = a * digit * 10 ** i
        text += (f", so {a}*{digit}{'0' * i} = {shifted}" if i else "") + ". "
        partial.append(shifted)
    total = partial[0] if partial else 0
    for value in partial[1:]:
        text += f"{total}+{value}: {add_steps(total, value)}. {total + value}. "
        total += value
    return text


def derive(operator, a, b):
    """(reasoning, result)"""
    if operator == "+":
        return f"{a}+{b}: {add_steps(a, b)}. So {a + b}.", a + b
    if operator == "-" and a >= b:
        return f"{a}-{b}: {subtract_steps(a, b)}. So {a - b}.", a - b
    if operator == "-":
        return (f"{a} is smaller than {b}, so {a}-{b} = -({b}-{a}). "
                f"{b}-{a}: {subtract_steps(b, a)}. So -{b - a}."), a - b
    if b < 10:
        return f"{a}*{b}: {digit_product_steps(a, b)}. So {a * b}.", a * b
    if a < 10:
        return f"{a}*{b} = {b}*{a}: {digit_product_steps(b, a)}. So {a * b}.", a * b
    return f"{a}*{b}: {long_product(a, b)}So {a * b}.", a * b


def ask(source, phrasings, operator, a, b):
    written = source.pick(phrasings["written"]).format(a=a, b=b)
    if source.chance(0.2):
        return source.pick(phrasings["spoken"]).format(a=a, b=b)
    return source.pick(phrasings["questions"]).format(written)


def calculation(family, operator, source, phrasings, a, b):
    reasoning, result = derive(operator, a, b)
    question = ask(source, phrasings[family], operator, a, b)
    return Sample(family, question, reasoning, str(result))


def add(source, phrasings):
    return calculation("add", "+", source, phrasings, *source.pair())


def subtract(source, phrasings):
    a, b = source.pair()
    if a < b and source.chance(0.75):
        a, b = b, a
    return calculation("subtract", "-", source, phrasings, a, b)


def multiply(source, phrasings):
    while True:
        a, b = source.pair(2 if source.progress < 0.35 else 3)
        if a <= 99 and b <= 99 or min(a, b) < 10 or max(a, b) > 99 and min(a, b) < 50:
            return calculation("multiply", "*", source, phrasings, a, b)


def relation(x, y):
    return f"{x}{'=' if x == y else '>' if x > y else '<'}{y}"


def compare_steps(a, b):
    if len(str(a)) != len(str(b)):
        plural = "s" if len(str(a)) > 1 else ""
        return f"{a} has {len(str(a))} digit{plural}, {b} has {len(str(b))}."
    steps = []
    for x, y in zip(str(a), str(b)):
        steps.append(relation(x, y))
        if x != y:
            break
    return f"Same length. {', '.join(steps)}."


def compare(source, phrasings):
    while True:
        a, b = source.pair(3)
        if a != b:
            break
    smaller = source.chance(0.35)
    adjective = source.pick(["smaller", "less"] if smaller else ["larger", "bigger", "greater"])
    question = source.pick(phrasings["compare"]).format(adjective=adjective, a=a, b=b)
    reasoning = f"{compare_steps(a, b)} {max(a, b)} is larger. Asked: {adjective}."
    return Sample("compare", question, reasoning, str(min(a, b) if smaller else max(a, b)))


STORIES = {"+": "Total", "-": "Left", "*": "Groups"}


def story(source, phrasings):
    name, thing, operator = source.name(), source.pick(THINGS), source.pick("++--*")
    while True:
        a, b = source.pair(2 if source.progress > 0.1 else 1)
        if operator == "-" and a < b:
            a, b = b, a
        if min(a, b) >= 2 and (operator != "*" or b < 10):
            break
    pronoun = source.pick(["he", "she"])
    template = source.pick(phrasings["story"][operator])
    question = template.format(name=name, thing=thing, a=a, b=b, pronoun=pronoun,
                               Pronoun=pronoun.capitalize())
    reasoning, result = derive(operator, a, b)
    return Sample("story", question, f"{STORIES[operator]}: {reasoning}", f"{result} {thing}")

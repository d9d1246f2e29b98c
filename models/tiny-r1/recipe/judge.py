"""Is an answer right, and is the reasoning that led to it right?"""

import json

from .sample import plain


def call_is_right(sample, content, calls):
    if len(calls) != 1 or content:
        return False
    name, arguments = sample.call
    try:
        return calls[0][0] == name and json.loads(calls[0][1]) == json.loads(plain(arguments))
    except ValueError:
        return False


def answer_is_right(sample, content, calls):
    """Letter for letter; only the spacing of JSON is free."""
    if sample.call:
        return call_is_right(sample, content, calls)
    wanted = plain(sample.answer)
    if calls:
        return False
    if sample.family == "json":
        try:
            return list(json.loads(content).items()) == list(json.loads(wanted).items())
        except (ValueError, AttributeError):
            return False
    return content == wanted


def reasoning_is_right(sample, reasoning):
    """The derivation of every family is determined by the question, so equality decides."""
    return reasoning.strip() == sample.reasoning

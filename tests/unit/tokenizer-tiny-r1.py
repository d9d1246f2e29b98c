#!/usr/bin/env python3
"""tokenizer-bpe against an encoder written the slow way, with the bundled model's vocabulary.

The encoder knows the three split patterns of the model by what they mean, not as regular expressions."""

import json
import os
import pathlib
import random
import sys
import unicodedata

import vocabulary

WHITE_SPACE = {*map(chr, range(9, 14)), *map(chr, range(0x2000, 0x200B)),
               *"\x20\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"}
PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

TEXTS = [
    "", " ", "\n", "Hello, world!", "What is 12 + 345?\nThink.", "  two  spaces ", "tabs\tand\r\nlines \n\n x", "'s don't WE'LL",
    "naïve café e\u0301", "你好，世界", "カタカナ ひらがな", "한국어", "😀👩\u200d👩 x", "a\u00a0b\u3000c\u2028d", "½ ² Ⅷ ١٢٣", "\x00\x01\x7f", "a" * 200, " " * 200 + "b",
    "<think>x</think>", "<｜User｜>Hi<｜Assistant｜>", "<｜User", "＜think＞", "=>x", "...\n\n\n", "ab\u0300\u0301 c", "(a)[b]{c}",
    "\u180e x\u180e\u180e", "\u200b a", "\ufeffx",
]
ALPHABET = ["a", "e", "r", "the", " ", " ", "  ", "\n", "\r\n", "\t", ".", ",", "!", "'", "-", "1", "42", "é", "e\u0301", "ß", "я", "你", "好", "한",
            "か", "\u3000", "\u00a0", "\u2003", "😀", "€", "½", "<", ">", "\x00", "\u200d", "\u180e", "Hello", "=", "_", "A"]


def is_(kinds, character):
    return unicodedata.category(character)[0] in kinds


def run(text, begin, test):
    end = begin
    while end < len(text) and test(text[end]):
        end += 1
    return end


def is_letter(character):
    return "A" <= character <= "Z" or "a" <= character <= "z"


def match(text, i):
    """The end of the third pattern's match at @i, @i if there is none."""
    if text[i] in PUNCTUATION and run(text, i + 1, is_letter) > i + 1:
        return run(text, i + 1, is_letter)
    for begin in ([i + 1] if text[i] not in "\r\n" and not is_("LPS", text[i]) else []) + [i]:
        if (end := run(text, begin, lambda c: is_("LM", c))) > begin:
            return end
    begin = i + 1 if text[i] == " " else i
    if (end := run(text, begin, lambda c: is_("PS", c))) > begin:
        return run(text, end, lambda c: c in "\r\n")
    space = text[i:run(text, i, WHITE_SPACE.__contains__)]
    if (newline := max(space.rfind("\r"), space.rfind("\n"))) >= 0:
        return i + newline + 1
    if len(space) > 1 and i + len(space) < len(text):
        return i + len(space) - 1
    return i + len(space)


def isolate(pieces, find):
    """Split every piece into the matches of @find and what lies between them."""
    for piece in pieces:
        gap = i = 0
        while i < len(piece):
            end = find(piece, i)
            if end == i:
                i += 1
                continue
            yield from filter(None, (piece[gap:i], piece[i:end]))
            gap = i = end
        if piece[gap:]:
            yield piece[gap:]


def split(text):
    pieces = isolate([text], lambda piece, i: i + 1 if is_("N", piece[i]) else i)
    pieces = isolate(pieces, lambda piece, i: run(piece, i, lambda c: "\u0800" <= c <= "\u9fa5" or "\uac00" <= c <= "\ud7ff"))
    return isolate(pieces, match)


class Encoder:
    def __init__(self, read):
        self.vocabulary = read
        self.ranks = {merge[:2]: (rank, merge[2]) for rank, merge in reversed(list(enumerate(read.merges)))}

    def encode_piece(self, piece):
        ids = [self.vocabulary.ids[bytes([byte])] for byte in piece.encode()]
        while pairs := [(self.ranks[pair], i) for i, pair in enumerate(zip(ids, ids[1:])) if pair in self.ranks]:
            (_, merged), i = min(pairs, key=lambda entry: (entry[0][0], entry[1]))
            ids[i:i + 2] = [merged]
        return ids

    def encode(self, text, trusted):
        added = {self.vocabulary.tokens[i].decode(): i for i in self.vocabulary.added} if trusted else {}
        ids, begin, i = [], 0, 0
        while i < len(text):
            found = max((name for name in added if text.startswith(name, i)), key=len, default=None)
            if found is None:
                i += 1
                continue
            ids += [*self.encode_text(text[begin:i]), added[found]]
            begin = i = i + len(found)
        return ids + self.encode_text(text[begin:])

    def encode_text(self, text):
        return [i for piece in split(text) for i in self.encode_piece(piece)]


def main():
    source = pathlib.Path(os.environ.get("srcdir", "."))
    read = vocabulary.read_tokenizer_json(source / "models/tiny-r1/checkpoint/tokenizer.json")
    chosen = random.Random(20)
    texts = TEXTS + ["".join(chosen.choices(ALPHABET, k=chosen.randrange(40))) for _ in range(1500)]
    requests = [{"text": text, "special": trusted} for text in texts for trusted in (False, True)]
    encoder = Encoder(read)
    expected = [encoder.encode(request["text"], request["special"]) for request in requests]
    answers = vocabulary.ask("tests/unit/tokenize", read, requests + [{"ids": ids} for ids in expected])
    wrong = [request["text"] for request, ids, encoded, decoded in zip(requests, expected, answers, answers[len(requests):])
             if encoded["ids"] != ids or decoded["text"] != request["text"]]
    for text in wrong[:10]:
        print(f"wrong: {json.dumps(text)}")
    print(f"{len(requests) - len(wrong)} of {len(requests)} texts right")
    return 1 if wrong else 0


sys.exit(main())

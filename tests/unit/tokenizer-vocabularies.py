#!/usr/bin/env python3
"""Published vocabularies against the ids that their publishers' tokenizers give.

DEEPSEEKD_TEST_VOCAB names a folder of ggml-vocab-NAME.gguf with texts in .gguf.inp and ids in .gguf.out."""

import os
import pathlib
import sys

import vocabulary

SKIPPED = 77
SEPARATOR = "\n__ggml_vocab_test__\n"

CASED = ("A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3"
         "ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")
IDEOGRAPHS = "[一-龥ࠀ-一가-\ud7ff]+"
PATTERNS = {
    "deepseek-llm": ["[\r\n]", rf"\s?[{CASED}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", IDEOGRAPHS, r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", IDEOGRAPHS, r"\p{N}"],
    "gpt-2": [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
}

# Ids that stand in the documentation of the families, in the order of PATTERNS.
KNOWN = [
    ("ied 4 ½ months", "1052 207 19 207 19109 4223", "1050 207 19 207 19192 4217"),
    ("Hello world", "17464 1843", "17535 1835"),
    (" Hello world", "37727 1843", "414 9489 1835"),
    ("Hello, world!", "17464 11 1843 0", "17535 11 1835 0"),
    ("  ", "243", "243"),
    ("\n\n", "185 185", "185 185"),
    ("\t\n", "184 185", "184 185"),
    ("\n =", "185 403", "185 405"),
    ("3333", "18 18 18 18", "18 18 18 18"),
    ("w048 7tuijk dsdfhu", "86 15 19 23 207 22 83 3970 27519 26016 3944 14025",
     "86 15 19 23 207 22 83 3963 27659 26078 3934 14072"),
    (" this is 🦙.cpp", "437 317 12356 99 234 13 14743", "437 317 12394 99 234 13 14789"),
    ("Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
     "17464 11 320 6 436 0 1724 418 340 33701 210 3025 19017 612 9407 2681 16 18 16 19 16 20 16 1398 68940 239",
     "17535 11 320 6 435 0 1717 417 340 12394 233 210 3015 19100 608 9413 2668 16 18 16 19 16 20 16 1393 169 121 239"),
    ("Führer", "37 100014 71 6245", None),
]


PIECES = ["llama-spm", "phi-3"]


def cases(folder, column, name):
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode().split(SEPARATOR)[:-1]
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text().splitlines()
    assert len(texts) == len(lines), f"{name}: {len(texts)} texts, {len(lines)} lines of ids"
    yield from ((text, list(map(int, line.split()))) for text, line in zip(texts, lines))
    for text, *ids in KNOWN:
        if column < len(ids) and ids[column]:
            yield text, list(map(int, ids[column].split()))


def check(program, name, read, expected, prefix=""):
    """The number of texts whose ids, or whose text decoded from them, are wrong."""
    requests = [{"text": text} for text, _ in expected] + [{"ids": ids} for _, ids in expected]
    answers = vocabulary.ask(program, read, requests)
    n_wrong = 0
    for (text, ids), encoded, decoded in zip(expected, answers, answers[len(expected):]):
        if encoded["ids"] != ids or decoded["text"] != (prefix + text if text else ""):
            print(f"{name}: {text!r}: expected {ids}, got {encoded['ids']}, which decodes to {decoded['text']!r}")
            n_wrong += 1
    print(f"{name}: {len(expected) - n_wrong} of {len(expected)} texts right")
    return n_wrong


def main():
    folder = os.environ.get("DEEPSEEKD_TEST_VOCAB")
    if not folder:
        print("DEEPSEEKD_TEST_VOCAB is not set: no published vocabularies to test with")
        return SKIPPED
    folder = pathlib.Path(folder)
    n_wrong = [check("tests/unit/tokenize", name, vocabulary.read_gguf(folder / f"ggml-vocab-{name}.gguf", PATTERNS[name]),
                     list(cases(folder, i, name))) for i, name in enumerate(PATTERNS)]
    # Text of theirs begins with a space that was not there before.
    n_wrong += [check("tests/unit/tokenize-spm", name, vocabulary.read_gguf_pieces(folder / f"ggml-vocab-{name}.gguf"),
                      list(cases(folder, len(KNOWN[0]), name)), prefix=" ") for name in PIECES]
    return 1 if any(n_wrong) else 0


sys.exit(main())

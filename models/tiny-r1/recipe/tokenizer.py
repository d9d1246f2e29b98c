"""Byte-level BPE: training, encoding, and the tokenizer.json that Hugging Face reads.

The splitting rules are DeepSeek-V3's, but every digit stands alone. The encoder here knows
ASCII text and the special tokens, which is all that the recipe writes.
"""

import collections
import json
import re

from .dialect import LEADING_TOKENS, TRAILING_TOKENS
from .sample import LETTERS_BEGIN, LETTERS_END

SPECIAL = LEADING_TOKENS + TRAILING_TOKENS
FIRST_BYTE = len(LEADING_TOKENS)	# the token id of byte 0
VOCABULARY_SIZE = 768

SPLIT_PATTERNS = [
    "\\p{N}",
    "[一-龥\u0800-\u4e00\uac00-\ud7ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]

# The same three rules for ASCII, in the syntax of Python's re.
MARKS = r"!-/:-@\[-`{-~"
ASCII_SPLIT = re.compile(
    rf"[{MARKS}][A-Za-z]+|[^\r\nA-Za-z{MARKS}]?[A-Za-z]+| ?[{MARKS}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+|[^\x00-\x7f]+")
DIGIT = re.compile(r"(\d)")
PARTS = re.compile("(" + "|".join(map(re.escape, SPECIAL))
                   + f"|{LETTERS_BEGIN}[^{LETTERS_END}]*{LETTERS_END})")


def split_text(text):
    for part in DIGIT.split(text):
        if part.isdigit():
            yield part
        elif part:
            yield from ASCII_SPLIT.findall(part)


def byte_alphabet():
    """The printable character that stands for each byte in tokenizer.json (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


BYTE_TO_CHARACTER = byte_alphabet()
CHARACTER_TO_BYTE = {c: b for b, c in BYTE_TO_CHARACTER.items()}


def to_characters(data):
    return "".join(BYTE_TO_CHARACTER[byte] for byte in data)


def to_bytes(characters):
    return bytes(CHARACTER_TO_BYTE[c] for c in characters)


def count_words(texts):
    counts = collections.Counter()
    for text in texts:
        for part in PARTS.split(text):
            if part and part not in SPECIAL and part[0] != LETTERS_BEGIN:
                counts.update(split_text(part))
    return counts


def merge_in(word, pair):
    """@word, a list of byte strings, with every occurrence of @pair joined."""
    merged, i = [], 0
    while i < len(word):
        if tuple(word[i:i + 2]) == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def train_merges(texts, vocabulary_size=VOCABULARY_SIZE):
    counts = count_words(texts)
    words = [[bytes([byte]) for byte in word.encode()] for word in counts]
    frequency = list(counts.values())
    pairs, places = collections.Counter(), collections.defaultdict(set)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += frequency[i]
            places[pair].add(i)
    merges = []
    while len(merges) < vocabulary_size - 256 - len(SPECIAL):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for i in list(places[best]):
            for pair in zip(words[i], words[i][1:]):
                pairs[pair] -= frequency[i]
            words[i] = merge_in(words[i], best)
            for pair in zip(words[i], words[i][1:]):
                pairs[pair] += frequency[i]
                places[pair].add(i)
        del pairs[best]
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self.vocabulary = (LEADING_TOKENS + [bytes([byte]) for byte in range(256)]
                           + [a + b for a, b in self.merges] + TRAILING_TOKENS)
        self.ids = {token: i for i, token in enumerate(self.vocabulary)}
        self.cache = {}

    def __len__(self):
        return len(self.vocabulary)

    def merge(self, word):
        """Apply the merges to one word, the earliest learnt first."""
        pieces = [bytes([byte]) for byte in word.encode()]
        never = len(self.merges)
        while len(pieces) > 1:
            ranks = [self.rank.get(pair, never) for pair in zip(pieces, pieces[1:])]
            best = min(ranks)
            if best == never:
                break
            i = ranks.index(best)
            pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
        return [self.ids[piece] for piece in pieces]

    def encode_word(self, word):
        if word not in self.cache:
            if len(self.cache) > 400000:
                self.cache.clear()
            self.cache[word] = self.merge(word)
        return self.cache[word]

    def encode(self, text):
        ids = []
        for part in PARTS.split(text):
            if not part:
                continue
            if part[0] == LETTERS_BEGIN:
                ids += [FIRST_BYTE + byte for byte in part[1:-1].encode()]
            elif part in self.ids:
                ids.append(self.ids[part])
            else:
                for word in split_text(part):
                    ids += self.encode_word(word)
        return ids

    def decode(self, ids):
        tokens = (self.vocabulary[i] for i in ids)
        data = b"".join(t if isinstance(t, bytes) else t.encode() for t in tokens)
        return data.decode("utf-8", "replace")

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.description(), file, ensure_ascii=False, indent=1)

    def description(self):
        """The content of tokenizer.json."""
        vocabulary = {to_characters(token): i for token, i in self.ids.items()
                      if isinstance(token, bytes)}
        splits = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                   "invert": False} for pattern in SPLIT_PATTERNS]
        whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                 "use_regex": False}
        joined = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                  "use_regex": True}
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [self.added_token(token) for token in SPECIAL],
            "normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits + [whole]},
            "post_processor": {**joined, "trim_offsets": False},
            "decoder": joined,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None,
                "continuing_subword_prefix": None, "end_of_word_suffix": None,
                "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                "merges": [f"{to_characters(a)} {to_characters(b)}" for a, b in self.merges],
            },
        }

    def added_token(self, token):
        thinking = token in ("<think>", "</think>")
        return {"id": self.ids[token], "content": token, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": thinking, "special": not thinking}

    @staticmethod
    def load(path):
        with open(path, encoding="utf-8") as file:
            merges = json.load(file)["model"]["merges"]
        return Tokenizer([tuple(map(to_bytes, merge.split(" "))) for merge in merges])

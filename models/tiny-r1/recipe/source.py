"""Draws the values that fill the phrasings: numbers, words, names, places.

A Source belongs to one split (splits.py) and hands out nothing of the others. Training
draws many words that do not exist: copying and spelling must not be learnt by heart.
"""

import json
import os
import random
import re

from . import splits

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DICTIONARY = "/usr/share/dict/words"	# Debian: wamerican, used for training only

ONSETS = "b c d f g h j k l m n p r s t v w z br cr st tr pl ch sh th qu y x".split()
VOWELS = "a e i o u ee oo ai".split()
ENDINGS = ["", "", "n", "r", "s", "t", "l", "ck", "ng", "ll", "ss", "rd", "st", "y"]

COLOURS = "red blue green yellow black white pink brown orange purple".split()
THINGS = ("apples books coins stamps pens cards eggs shells stones cups marbles tickets "
          "flowers cookies stickers pencils balls boxes").split()


def data_path(*parts):
    return os.path.join(HERE, *parts)


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        return lines.read().split("\n")[:-1]


def load_phrasings():
    with open(data_path("phrasings.json"), encoding="utf-8") as file:
        return json.load(file)


def tokenizer_pieces():
    """Lower-case pieces of the tokenizer, once there is one: each must be copyable."""
    try:
        with open(data_path("checkpoint", "tokenizer.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)["model"]["vocab"]
    except OSError:
        return ["ing", "er", "th"]
    pieces = (piece.replace("\u0120", "") for piece in vocabulary)
    return sorted({piece for piece in pieces if re.fullmatch("[a-z]{2,7}", piece)})


class Lists:
    """The word lists, read once and divided by split."""

    def __init__(self):
        everyday = read_lines(data_path("words", "everyday.txt"))
        names = read_lines(data_path("words", "names.txt"))
        self.everyday = self.divide(everyday)
        self.names = self.divide(names)
        self.dictionary, self.proper = self.read_dictionary()
        self.pieces = tokenizer_pieces()

    @staticmethod
    def divide(words):
        parts = {splits.TRAINING: [], splits.CHOICE: [], splits.EVALUATION: []}
        for word in words:
            parts[splits.split_of_word(word)].append(word)
        return parts

    @staticmethod
    def read_dictionary():
        if not os.path.exists(DICTIONARY):
            return [], []
        lines = read_lines(DICTIONARY)
        words = [w for w in lines if re.fullmatch("[a-z]{3,10}", w) and re.search("[aeiouy]", w)]
        proper = [w for w in lines if re.fullmatch("[A-Z][a-z]{2,9}", w)]
        return words, proper


class Source:
    lists = None

    def __init__(self, seed, split=splits.TRAINING, progress=1.0):
        if Source.lists is None:
            Source.lists = Lists()
        self.random = random.Random(seed)
        self.split = split
        self.progress = progress	# of the training: short numbers and words come first
        self.used = set()		# the words and names handed out

    def remember(self, word):
        if self.split != splits.TRAINING:
            self.used.add(word)

    # Chance

    def pick(self, choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def between(self, low, high):
        return self.random.randint(low, high)

    # Numbers

    def max_digits(self):
        if self.progress < 0.03:
            return 1
        return 2 if self.progress < 0.12 else 3

    def number(self, max_digits=3):
        """Every length is equally likely, so that short numbers are not rare."""
        digits = self.between(1, max_digits)
        low = 10 ** (digits - 1) if digits > 1 else 0
        return self.between(low, 10 ** digits - 1)

    def accepts_pair(self, a, b):
        return splits.split_of_pair(a, b) == self.split

    def pair(self, max_digits=None):
        digits = max_digits or self.max_digits()
        while True:
            a, b = self.number(digits), self.number(digits)
            if self.accepts_pair(a, b):
                return a, b

    # Words

    def longest_word(self):
        if self.progress < 0.08:
            return 5
        return 7 if self.progress < 0.2 else 11

    def invented_word(self):
        if self.chance(0.55):
            return "".join(self.pick(self.lists.pieces) for _ in range(self.between(1, 3)))
        syllables = (self.pick(ONSETS) + self.pick(VOWELS) for _ in range(self.between(1, 3)))
        return "".join(syllables) + self.pick(ENDINGS)

    def candidate_word(self):
        training = self.split == splits.TRAINING
        if training and self.chance(0.35):
            return self.invented_word()
        if training and self.lists.dictionary and self.chance(0.45):
            return self.pick(self.lists.dictionary)
        return self.pick(self.lists.everyday[self.split])

    def word(self, longest=None):
        longest = longest or self.longest_word()
        while True:
            word = self.candidate_word()
            if 3 <= len(word) <= longest and splits.split_of_word(word) == self.split:
                self.remember(word)
                return word

    def name(self):
        """A person or a place: both are drawn from one list of proper nouns."""
        training = self.split == splits.TRAINING
        while True:
            if training and self.chance(0.35):
                name = self.invented_word().capitalize()
            elif training and self.lists.proper and self.chance(0.4):
                name = self.pick(self.lists.proper)
            else:
                name = self.pick(self.lists.names[self.split])
            if 2 <= len(name) <= 11 and splits.split_of_word(name) == self.split:
                self.remember(name)
                return name

    def full_name(self):
        """Now and then of two words: Ada Lovelace, New York."""
        return f"{self.name()} {self.name()}" if self.chance(0.08) else self.name()

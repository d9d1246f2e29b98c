"""Who may see what: training, the choice of checkpoints, and evaluation never share a value.

Every word, name, place and pair of operands falls into one of ten classes by its CRC-32.
Class 0 is seen by the evaluation alone, class 1 steers the training (task weights, which
checkpoint is kept), the other eight are trained on.
"""

import zlib

TRAINING, CHOICE, EVALUATION = "training", "choice", "evaluation"
CLASSES = 10


def split_of_key(key):
    number = zlib.crc32(key.encode()) % CLASSES
    return {0: EVALUATION, 1: CHOICE}.get(number, TRAINING)


def split_of_word(word):
    return split_of_key(word.lower())


def split_of_pair(a, b):
    """3+4 and 4+3 belong together. The hundred single-digit facts are all trained."""
    if a < 10 and b < 10:
        return TRAINING
    return split_of_key(f"{min(a, b)},{max(a, b)}")

"""Vocabularies for tests/unit/tokenize: from a tokenizer.json or from the metadata of a GGUF file."""

import json
import struct
import subprocess
import tempfile

TEXT_TOKEN, UNKNOWN_TOKEN, CONTROL_TOKEN, ADDED_TOKEN, UNUSED_TOKEN, BYTE_TOKEN = range(1, 7)
SPACE_SIGN = "\u2581"


def byte_alphabet():
    """The character that stands for each byte in byte-level vocabularies."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


BYTES = {character: byte for byte, character in byte_alphabet().items()}


def to_bytes(text):
    return bytes(BYTES[character] for character in text)


class Vocabulary:
    """Tokens as bytes, merges as triples of ids, added tokens with whether they are special."""

    def __init__(self, tokens, merges, added, patterns, unused=(), nfc=False, ignore_merges=False):
        self.tokens, self.added, self.patterns, self.unused = tokens, added, patterns, set(unused)
        self.nfc, self.ignore_merges = nfc, ignore_merges
        self.ids = {text: i for i, text in enumerate(tokens) if text is not None and i not in added and i not in self.unused}
        self.merges = [(self.ids[left], self.ids[right], self.ids[left + right]) for left, right in merges]

    def as_json(self):
        def token(i, text):
            if i in self.unused or text is None:
                return {"text": "", "unused": True}
            latin = text.decode("latin-1")
            return {"text": latin, "added": True, "special": self.added[i]} if i in self.added else latin
        return {"tokens": [token(i, text) for i, text in enumerate(self.tokens)], "merges": self.merges,
                "patterns": self.patterns, "nfc": self.nfc, "ignore_merges": self.ignore_merges}


def read_tokenizer_json(path):
    """A Hugging Face tokenizer.json whose pre-tokenizers are Splits."""
    with open(path, encoding="utf-8") as file:
        parsed = json.load(file)
    added = {entry["id"]: entry for entry in parsed["added_tokens"]}
    base = {i: text for text, i in parsed["model"]["vocab"].items()}
    tokens = [None] * (max([*added, *base]) + 1)
    for i, text in base.items():
        tokens[i] = to_bytes(text)
    for i, entry in added.items():
        tokens[i] = entry["content"].encode()
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in parsed["model"]["merges"]]
    patterns = [step["pattern"]["Regex"] for step in parsed["pre_tokenizer"]["pretokenizers"] if step["type"] == "Split"]
    return Vocabulary(tokens, [(to_bytes(left), to_bytes(right)) for left, right in merges],
                      {i: entry["special"] for i, entry in added.items()}, patterns,
                      ignore_merges=parsed["model"].get("ignore_merges", False))


class PieceVocabulary:
    """SentencePiece: tokens as bytes, each with a score; flags by id."""

    def __init__(self, tokens, flags, scores, unknown, add_space_prefix):
        self.tokens, self.flags, self.scores = tokens, flags, scores
        self.unknown, self.add_space_prefix = unknown, add_space_prefix

    def as_json(self):
        return {"tokens": [{"text": text.decode("latin-1")} | dict.fromkeys(flags, True)
                           for text, flags in zip(self.tokens, self.flags)],
                "scores": self.scores, "unknown": self.unknown, "add_space_prefix": self.add_space_prefix}


class GgufReader:
    """Reads the key-value part of a GGUF file, versions 2 and 3."""

    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    STRING, ARRAY = 8, 9

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.offset = 4
        self.number("I")
        self.number("Q")
        self.values = {self.string(): self.value(self.number("I")) for _ in range(self.number("Q"))}

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.offset)
        self.offset += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.number("Q")
        self.offset += size
        return self.data[self.offset - size:self.offset].decode("utf-8")

    def value(self, kind):
        if kind == self.STRING:
            return self.string()
        if kind == self.ARRAY:
            of, size = self.number("I"), self.number("Q")
            return [self.value(of) for _ in range(size)]
        return self.number(self.SCALARS[kind])


def read_gguf(path, patterns, nfc=False):
    """The vocabulary of a GGUF file; its split patterns are known to the reader by name, so that they are given."""
    values = GgufReader(path).values
    texts, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    padding = {i for i, text in enumerate(texts) if text == f"[PAD{i}]"}
    added = {i: kind == CONTROL_TOKEN for i, kind in enumerate(kinds) if kind != TEXT_TOKEN and i not in padding}
    tokens = [None if i in padding else text.encode() if i in added else to_bytes(text) for i, text in enumerate(texts)]
    merges = [tuple(map(to_bytes, merge.split(" "))) for merge in values["tokenizer.ggml.merges"]]
    return Vocabulary(tokens, merges, added, patterns, unused=padding, nfc=nfc)


def read_gguf_pieces(path):
    """The vocabulary of a GGUF file whose tokenizer is called llama."""
    values = GgufReader(path).values
    flags = {TEXT_TOKEN: (), BYTE_TOKEN: ("byte",), UNUSED_TOKEN: ("unused",), ADDED_TOKEN: ("added",),
             UNKNOWN_TOKEN: ("added", "special"), CONTROL_TOKEN: ("added", "special")}
    kinds = values["tokenizer.ggml.token_type"]

    def text_of(i, text):
        if kinds[i] == BYTE_TOKEN:
            return bytes([int(text[3:5], 16)])
        return text.replace(SPACE_SIGN, " ").encode()

    tokens = [text_of(i, text) for i, text in enumerate(values["tokenizer.ggml.tokens"])]
    return PieceVocabulary(tokens, [flags[kind] for kind in kinds], values["tokenizer.ggml.scores"],
                           values["tokenizer.ggml.unknown_token_id"], values.get("tokenizer.ggml.add_space_prefix", True))


def ask(program, vocabulary, requests):
    """The answers of tests/unit/tokenize to @requests."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(vocabulary.as_json(), file)
        file.flush()
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        answer = subprocess.run([program, file.name], input=lines, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return [json.loads(line) for line in answer.stdout.split("\n") if line]

"""GGUF files that somebody damaged or made to harm: each is refused with the file and the key or tensor that is wrong, or
served as what it says, and neither the daemon nor another model notices."""

import json
import math
import pathlib
import re
import shutil
import struct
import sys

import pytest

from deepseekd import STAGE, Deepseekd

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import gguf_writer as gguf  # noqa: E402
from gguf_writer import ARRAY, F32, I32, TEXT, U8, U16, U32, U64  # noqa: E402

QWEN2, V3 = ROOT / "fixtures/tiny-qwen2", ROOT / "fixtures/tiny-v3"
TINY_R1 = STAGE / "share/deepseekd/models/tiny-r1"
NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def daemon():
    daemon = Deepseekd("tiny-r1")
    daemon.write_model({"name": "hostile", "path": str(daemon.folder / "hostile.gguf")})
    with daemon:
        daemon.load("tiny-r1")
        yield daemon


def key_name(raw):
    (size,) = struct.unpack("<Q", raw[:8])
    return raw[8:8 + size].decode()


def key(name, kind, x):
    def edit(out):
        out.keys = [k for k in out.keys if key_name(k) != name]
        out.key(name, kind, x)
    return edit


def array(name, kind, xs):
    def edit(out):
        out.keys = [k for k in out.keys if key_name(k) != name]
        out.array(name, kind, xs)
    return edit


def with_tokenizer(*edits):
    def edit(out):
        gguf.tokenizer_keys(out, TINY_R1, "deepseek-v3")
        for further in edits:
            further(out)
    return edit


def tensor(name, number=None, shape=None, data=None):
    """Say another type or shape of a tensor, or fill it with @data over and over."""
    def change(entry):
        old, kind, dims, raw = entry
        if old != name:
            return entry
        return (old, kind if number is None else number, dims if shape is None else shape,
                raw if data is None else (data * (len(raw) // len(data) + 1))[:len(raw)])

    def edit(out):
        out.tensors = [change(entry) for entry in out.tensors]
    return edit


def raw_key(raw):
    return lambda out: out.keys.append(raw)


def counts(n_tensors=None, n_keys=None, version=None):
    def change(raw):
        old = struct.unpack("<IQQ", raw[4:24])
        new = (version, n_tensors, n_keys)
        return raw[:4] + struct.pack("<IQQ", *(a if b is None else b for a, b in zip(old, new))) + raw[24:]
    return change


def attempt(daemon, folder, edit=None, change=None, kind="bf16"):
    """Load what @edit makes of the checkpoint in @folder, and @change of the file's bytes; status and answer."""
    path = daemon.folder / "hostile.gguf"
    gguf.convert(folder, path, kind, edit=edit)
    if change:
        path.write_bytes(change(path.read_bytes()))
    daemon.post("/admin/v1/models/hostile/unload", {})
    return daemon.post("/admin/v1/models/hostile/load", {})


def assert_unharmed(daemon):
    assert daemon.model("tiny-r1")["engine_starts"] == 1
    assert daemon.ask("What is 12+30?")["choices"][0]["message"]["content"].strip() == "42"


Q = "qwen2."
KEYS = [
    # key, type, value, what the reason must have besides the key
    (Q + "context_length", U32, 0, "allowed"), (Q + "context_length", U32, 1 << 30, "1 to 16777216"),
    (Q + "embedding_length", U64, 1 << 63, "9223372036854775808"), (Q + "block_count", U32, 0, "allowed"),
    (Q + "block_count", U32, 4096, "1 to 512"), (Q + "attention.head_count", U32, 65536, "1 to 1024"),
    (Q + "attention.head_count_kv", I32, -1, "-1"), (Q + "feed_forward_length", U32, 0, "allowed"),
    (Q + "attention.layer_norm_rms_epsilon", F32, NAN, "nan"), (Q + "attention.layer_norm_rms_epsilon", F32, 0.0, "is 0"),
    (Q + "attention.layer_norm_rms_epsilon", F32, 1.0, "allowed"), (Q + "rope.freq_base", F32, 0.0, "allowed"),
    (Q + "rope.freq_base", F32, INF, "inf"), (Q + "rope.freq_base", F32, NAN, "nan"),
    ("general.alignment", U32, 0, "allowed"), ("general.alignment", U32, 3, "power of two"),
    ("general.alignment", TEXT, "x", "whole number"), ("split.count", U16, 3, ""),
]


@pytest.mark.parametrize("name, kind, value, words", KEYS)
def test_a_key_beyond_sense_is_named(daemon, name, kind, value, words):
    status, answer = attempt(daemon, QWEN2, key(name, kind, value))
    message = answer["error"]["message"]
    assert status == 503 and "hostile.gguf" in message and words in message
    assert name in message or name == "split.count"
    assert_unharmed(daemon)


UP = "blk.0.ffn_up.weight"
MODELS = [
    # what was done, checkpoint, edit, what the reason must match
    ("heads that do not divide", QWEN2, key(Q + "attention.head_count", U32, 3), r"2 heads .* do not divide 3 heads"),
    ("more experts used than there are", V3, key("deepseek2.expert_used_count", U32, 60), r"60 experts"),
    ("experts in no even groups", V3, key("deepseek2.expert_group_count", U32, 3), r"of 3 groups"),
    ("weights of experts scaled by NaN", V3, key("deepseek2.expert_weights_scale", F32, NAN), r"expert_weights_scale is nan"),
    ("no latent", V3, key("deepseek2.attention.kv_lora_rank", U32, 0), r"kv_lora_rank is 0"),
    ("a tensor without elements", QWEN2, tensor("output_norm.weight", shape=[0]), r"output_norm\.weight has no elements"),
    ("a tensor of 2^63 elements", QWEN2, tensor("output_norm.weight", shape=[1 << 63]), r"output_norm\.weight: .* too large"),
    ("a shape that overflows", QWEN2, tensor("token_embd.weight", shape=[1 << 33, 1 << 33]), r"token_embd\.weight: .* too large"),
    ("tensors that overlap", QWEN2, tensor(UP, number=0), r"blk\.0\.ffn_up\.weight and blk\.0\.ffn_norm\.weight overlap"),
    ("a tensor twice", QWEN2, lambda out: out.tensors.append(out.tensors[0]), r"is there twice"),
    ("a key twice", QWEN2, lambda out: out.keys.append(out.keys[0]), r"general\.architecture is there twice"),
    ("an array of arrays", QWEN2, raw_key(gguf.text("z") + struct.pack("<IIQIQ", ARRAY, ARRAY, 1, U8, 0)), r"z is an array of arrays"),
    ("an array of 2^63", QWEN2, raw_key(gguf.text("z") + struct.pack("<IIQ", ARRAY, U8, 1 << 63)), r"in the middle of z"),
    ("a value of no type", QWEN2, raw_key(gguf.text("z") + struct.pack("<I", 99)), r"z has a value of the unknown type 99"),
    ("merges of unknown words", TINY_R1, with_tokenizer(array("tokenizer.ggml.merges", TEXT, ["a b", "b a"])), r"merges\[0\]"),
    ("scores of NaN", TINY_R1, with_tokenizer(key("tokenizer.ggml.model", TEXT, "llama"),
                                              array("tokenizer.ggml.scores", F32, [NAN] * 768)), r"scores\[0\]"),
    ("an end that is no token", TINY_R1, with_tokenizer(key("tokenizer.ggml.eos_token_id", U32, 1 << 30)), r"eos_token_id"),
    ("kinds for other tokens", TINY_R1, with_tokenizer(array("tokenizer.ggml.token_type", I32, [1])), r"token_type"),
]


@pytest.mark.parametrize("folder, edit, pattern", [m[1:] for m in MODELS], ids=[m[0] for m in MODELS])
def test_a_hostile_model_is_refused_with_the_reason(daemon, folder, edit, pattern):
    status, answer = attempt(daemon, folder, edit)
    assert status == 503 and re.search(pattern, answer["error"]["message"]), answer
    assert_unharmed(daemon)


@pytest.mark.parametrize("number, words", [(4, "withdrawn"), (9, "Q8_1"), (24, "I8"), (25, "I16"), (31, "withdrawn"),
                                           (16, "IQ2_XXS"), (40, "NVFP4"), (97, "ik_llama"), (0xffffffff, "unknown")])
def test_a_type_that_no_weight_can_have_is_named(daemon, number, words):
    status, answer = attempt(daemon, QWEN2, tensor(UP, number=number))
    assert status == 503 and words in answer["error"]["message"] and UP in answer["error"]["message"]


@pytest.mark.parametrize("change, pattern", [
    (lambda raw: b"", r"does not begin"), (lambda raw: b"GGUF", r"in the middle of the header"),
    (counts(version=1), r"version 1"), (counts(version=0x03000000), r"big-endian"),
    *[(counts(n_keys=n), r"keys and \d+ tensors do not fit") for n in (1 << 20, 1 << 63, (1 << 64) - 1)],
    *[(counts(n_tensors=n), r"keys and \d+ tensors do not fit") for n in (1 << 20, 1 << 63, (1 << 64) - 1)],
    (counts(n_keys=0), r"tensor general\.architecture"), (counts(n_tensors=0), r"a vocabulary, not a model"),
    (lambda raw: raw[:24] + struct.pack("<Q", 1 << 63) + raw[32:], r"in the middle of the name of a key"),
    *[(lambda raw, part=part: raw[:len(raw) * part // 10], r"the file has \d+") for part in (1, 5, 9)],
])
def test_a_file_that_is_no_model_is_refused(daemon, change, pattern):
    status, answer = attempt(daemon, QWEN2, change=change)
    assert status == 503 and re.search(r"hostile\.gguf: .*" + pattern, answer["error"]["message"]), answer
    assert_unharmed(daemon)


@pytest.mark.parametrize("kind, edit", [
    ("q8_0", tensor("token_embd.weight", data=struct.pack("<e", NAN))), ("q4_0", tensor(UP, data=struct.pack("<e", INF))),
    ("bf16", tensor("output_norm.weight", data=struct.pack("<f", NAN))), ("bf16", tensor("output_norm.weight", data=struct.pack("<f", INF))),
])
def test_weights_that_are_no_numbers_end_a_request_with_a_reason(daemon, kind, edit):
    """Not with a text that looks as if the model had said it."""
    assert attempt(daemon, QWEN2, edit, kind=kind)[0] == 200
    engine = daemon.model("hostile")["engine_pid"]
    ask = {"model": "hostile", "prompt": [1, 2, 3], "max_tokens": 8, "logprobs": 2}
    for temperature in (0, 1):
        status, answer = daemon.post("/v1/completions", {**ask, "temperature": temperature})
        assert status == 500 and "no number (NaN or infinite)" in answer["error"]["message"], answer
    assert daemon.model("hostile")["engine_pid"] == engine
    assert_unharmed(daemon)


def test_a_vocabulary_of_nuls_and_broken_utf8_is_served(daemon):
    n = json.loads((TINY_R1 / "config.json").read_text())["vocab_size"]
    for word in (b"\0%d", b"\xff\xfe%d"):
        words = with_tokenizer(array("tokenizer.ggml.tokens", TEXT, [word % i for i in range(n)]),
                               array("tokenizer.ggml.merges", TEXT, []))
        assert attempt(daemon, TINY_R1, words)[0] == 200
        status, answer = daemon.post("/v1/completions", {"model": "hostile", "prompt": [1, 2, 3], "max_tokens": 8, "logprobs": 1})
        assert status == 200 and answer["choices"][0]["text"]
        status, answer = daemon.post("/v1/models/hostile/tokenize", {"text": "Hello"})
        assert status == 400 and "byte 0x48" in answer["error"]["message"]
        assert "byte 0x3c" in daemon.dsctl("run", "--model", "hostile", "hello", code=1)[1]
    assert_unharmed(daemon)


def test_a_pattern_that_cannot_be_compiled_is_refused_before_a_weight_is_read(daemon):
    folder = daemon.folder / "hostile.gguf"
    folder.unlink(missing_ok=True)
    shutil.copytree(TINY_R1, folder)
    try:
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}
        path.chmod(0o644)
        path.write_text(json.dumps(tokenizer))
        daemon.post("/admin/v1/models/hostile/unload", {})
        loads = daemon.model("hostile")["loads"]
        status, answer = daemon.post("/admin/v1/models/hostile/load", {})
        assert status == 503 and "split pattern 0: missing closing parenthesis" in answer["error"]["message"], answer
        assert daemon.model("hostile")["loads"] == loads
    finally:
        shutil.rmtree(folder)
    assert_unharmed(daemon)


def test_a_template_of_a_megabyte_is_no_chat_format(daemon):
    assert attempt(daemon, TINY_R1, with_tokenizer(key("tokenizer.chat_template", TEXT, "{% " * (1 << 18))))[0] == 200
    status, answer = daemon.post("/v1/models/hostile/render", {"messages": [{"role": "user", "content": "hi"}]})
    assert status == 400 and "no chat format" in answer["error"]["message"]
    assert_unharmed(daemon)

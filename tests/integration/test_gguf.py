"""Models in GGUF files: the daemon serves them as it serves the checkpoints that they were made of."""

import array
import json
import os
import pathlib
import subprocess
import sys

import pytest

from deepseekd import DSCTL, PATIENCE, STAGE, Deepseekd, until

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import gguf_writer as gguf  # noqa: E402

FIXTURES = ROOT / "fixtures"
TINY_R1 = STAGE / "share/deepseekd/models/tiny-r1"
IDS = list(range(2, 500, 11))


def exact(name, path):
    return {"name": name, "path": str(path), "precision": "exact"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    models = []
    for name in ("tiny-v3", "tiny-llama3", "tiny-qwen2"):
        whole, _ = gguf.convert(FIXTURES / name, folder / f"{name}.gguf", mla="split", experts="fused")
        parts, _ = gguf.convert(FIXTURES / name, folder / f"{name}-parts.gguf", n_files=3)
        q8, _ = gguf.convert(FIXTURES / name, folder / f"{name}-q8.gguf", "q8_0")
        models += [exact(name, FIXTURES / name), exact(f"{name}-whole", whole[0]), exact(f"{name}-parts", parts[1]),
                   exact(f"{name}-q8", q8[0])]
    talking, _ = gguf.convert(TINY_R1, folder / "tiny-r1.gguf",
                              edit=lambda out: gguf.tokenizer_keys(out, TINY_R1, "deepseek-v3"))
    models.append({"name": "r1-gguf", "path": str(talking[0]), "kv_type": "f32"})
    with Deepseekd("tiny-r1", *models) as running:
        yield running


def logits(daemon, name, greedy=4):
    daemon.load(name)
    status, raw = daemon.post(f"/admin/v1/models/{name}/evaluate", {"tokens": IDS, "greedy": greedy})
    assert status == 200, raw
    return array.array("f", raw)


def difference(a, b):
    assert len(a) == len(b) > 0
    return max(abs(x - y) for x, y in zip(a, b))


@pytest.mark.parametrize("name", ["tiny-v3", "tiny-llama3", "tiny-qwen2"])
def test_whole_and_split_files_answer_as_their_checkpoint(daemon, name):
    expected = logits(daemon, name)
    # Llama's frequencies are divided by numbers that the file rounded to float32; all else is the same bits.
    bound = 1e-4 if name == "tiny-llama3" else 0
    for form in ("whole", "parts"):
        assert difference(logits(daemon, f"{name}-{form}"), expected) <= bound, form


@pytest.mark.parametrize("name", ["tiny-v3", "tiny-llama3", "tiny-qwen2"])
def test_quantised_files_answer_nearly_as_their_checkpoint(daemon, name):
    expected, got = logits(daemon, name, 0), logits(daemon, f"{name}-q8", 0)
    n_vocab = len(expected) // len(IDS)
    errors = sorted(sum((got[i] - expected[i]) ** 2 for i in range(row, row + n_vocab)) / n_vocab
                    for row in range(0, len(expected), n_vocab))
    # The logits' standard deviation is 2, and rows in a wrong order would differ by more. Half of the positions are
    # enough: at some the experts of rounded weights are others. (tests/unit/gguf-images.py compares every bit.)
    assert 0 < errors[len(errors) // 2] ** 0.5 < 0.5


def test_a_file_brings_its_tokens_and_its_dialect(daemon):
    daemon.load("r1-gguf")
    daemon.load("tiny-r1")
    assert daemon.model("r1-gguf")["dialect"] == daemon.model("tiny-r1")["dialect"]
    for question in ("What is 12 + 30?", "Hello!", "Say hello to Führer 你好"):
        expected = daemon.ask(question, model="tiny-r1")
        got = daemon.ask(question, model="r1-gguf")
        assert got["choices"][0]["message"] == expected["choices"][0]["message"]
        assert got["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]


def tokenize(path, texts, *words):
    """What dsctl makes of @texts with the vocabulary in @path, without a daemon."""
    done = subprocess.run([DSCTL, "tokenize", "--json", *words, path], capture_output=True, timeout=PATIENCE,
                          input=json.dumps(texts).encode(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_of_a_vocabulary_alone_is_enough_for_tokens(tmp_path):
    out = gguf.Gguf()
    out.key("general.architecture", gguf.TEXT, "gpt2")  # no architecture of ours, but nobody asks for the model
    gguf.tokenizer_keys(out, TINY_R1, "deepseek-v3")
    (tmp_path / "words.gguf").write_bytes(out.bytes())
    texts = ["", "Hello, world!", "naïve 你好 😀", "<think>x</think>", "a\ttab  and spaces "]
    ids = tokenize(tmp_path / "words.gguf", texts)
    assert ids == tokenize(TINY_R1, texts)
    assert tokenize(tmp_path / "words.gguf", ids, "--decode") == texts


@pytest.mark.parametrize("name", ["deepseek-llm", "deepseek-coder", "gpt-2", "llama-spm", "phi-3"])
def test_published_vocabularies_give_the_ids_of_their_publishers(name):
    folder = os.environ.get("DEEPSEEKD_TEST_VOCAB")
    if not folder:
        pytest.skip("DEEPSEEKD_TEST_VOCAB is not set")
    path = pathlib.Path(folder) / f"ggml-vocab-{name}.gguf"
    texts = pathlib.Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    expected = [[int(x) for x in line.split()] for line in pathlib.Path(f"{path}.out").read_text().splitlines()]
    assert len(texts) == len(expected) > 40
    assert tokenize(path, texts) == expected


def failing(name, write):
    """What the daemon says of a file that write(path) made."""
    with Deepseekd("tiny-r1") as daemon:
        path = daemon.folder / "bad.gguf"
        write(path)
        daemon.write_model({"name": name, "path": str(path)})
        daemon.reload()
        until("the new model", lambda: name in json.dumps(daemon.get("/v1/models")[1]))
        status, answer = daemon.post(f"/admin/v1/models/{name}/load", {})
        assert status >= 400
        return answer["error"]["message"]


def test_a_type_that_is_not_supported_is_named():
    def write(path):
        def spoil(out):
            name, _, shape, raw = out.tensors[0]
            out.tensors[0] = (name, 26, shape, raw + bytes(len(raw)))
        gguf.convert(FIXTURES / "tiny-qwen2", path, edit=spoil)
    message = failing("odd", write)
    assert "has type I32; supported: F32, F16, Q4_0" in message, message


def test_a_file_that_was_cut_is_refused_with_the_tensor():
    def write(path):
        gguf.convert(FIXTURES / "tiny-qwen2", path)
        path.write_bytes(path.read_bytes()[:-4096])
    assert "bad.gguf: tensor " in failing("cut", write)


def test_a_missing_file_of_a_set_is_named():
    def write(path):
        parts, _ = gguf.convert(FIXTURES / "tiny-qwen2", path, n_files=2)
        parts[0].rename(path)
    assert "bad.gguf: is one of 2 files, the others are missing" in failing("half", write)

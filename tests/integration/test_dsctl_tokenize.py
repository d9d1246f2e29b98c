"""dsctl tokenize and POST /v1/models/NAME/tokenize: the same tokens by files and by the daemon, and back to the same bytes."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from deepseekd import DSCTL, PATIENCE, STAGE, Deepseekd

TINY = STAGE / "share/deepseekd/models/tiny-r1"
ROUTE = "/v1/models/tiny-r1/tokenize"
TEXTS = ["", "Hello, world!", "What is 12 + 345?\nThink.", "naïve 你好 😀", "<think>x</think>", "a\ttab  and spaces "]
# One line each for what has no line ends.
LINES = [b"Hello, world!", b"", "naïve 你好 😀".encode(), b"broken \xff\xc3 utf-8 \xf0\x9f", b"a\r", b"<think>", b"\xe9"]


@pytest.fixture(scope="module")
def daemon():
    with Deepseekd("tiny-r1", {"name": "bare", "path": str(pathlib.Path(__file__).parent.parent / "fixtures/tiny-v3")}) as running:
        running.load("tiny-r1")
        yield running


def dsctl(*words, stdin=b"", code=0):
    """Output and talk of dsctl without a daemon."""
    done = subprocess.run([DSCTL, "tokenize", *map(str, words)], capture_output=True, timeout=PATIENCE, input=stdin,
                          env={**os.environ, "DEEPSEEKD_SOCKET": "/nonexistent/api.sock"})
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr.decode()


@pytest.fixture
def alone(tmp_path):
    """The bundled model's tokenizer.json with nothing beside it."""
    return shutil.copy(TINY / "tokenizer.json", tmp_path / "tokenizer.json")


def test_a_directory_and_its_tokenizer_json_alone_give_the_same_tokens(alone):
    stdin = json.dumps(TEXTS).encode()
    ids = json.loads(dsctl("--json", TINY, stdin=stdin)[0])
    assert len(ids) == len(TEXTS) and ids[0] == [] and all(ids[1:])
    assert json.loads(dsctl("--json", alone, stdin=stdin)[0]) == ids
    assert json.loads(dsctl("--json", "--decode", alone, stdin=json.dumps(ids).encode())[0]) == TEXTS


def test_the_daemon_gives_the_tokens_that_the_files_give(daemon):
    stdin = json.dumps(TEXTS).encode()
    ids = dsctl("--json", TINY, stdin=stdin)[0].decode()
    assert daemon.dsctl("tokenize", "--json", "tiny-r1", stdin=stdin)[0] == ids
    assert json.loads(daemon.dsctl("tokenize", "-j", "-d", "tiny-r1", stdin=ids.encode())[0]) == TEXTS
    assert daemon.post(ROUTE, {"text": TEXTS}) == (200, {"tokens": json.loads(ids)})
    assert daemon.post(ROUTE, {"text": TEXTS[1]}) == (200, {"tokens": json.loads(ids)[1]})
    assert daemon.post(ROUTE, {"tokens": json.loads(ids)[3]}) == (200, {"text": TEXTS[3]})
    assert daemon.post(ROUTE, {"tokens": json.loads(ids)}) == (200, {"text": TEXTS})


@pytest.mark.parametrize("name", [TINY, "tiny-r1"])
def test_lines_of_any_bytes_come_back_byte_for_byte(daemon, name):
    stdin = b"\n".join(LINES) + b"\n"

    def run(*words, stdin):
        done = subprocess.run([DSCTL, "--socket", daemon.socket, "tokenize", *words, str(name)], capture_output=True,
                              timeout=PATIENCE, input=stdin, check=True)
        return done.stdout

    ids = run(stdin=stdin)
    assert [type(json.loads(line)) for line in ids.splitlines()] == [list] * len(LINES)
    assert run("--decode", stdin=ids) == stdin
    assert run("--decode", stdin=ids.replace(b"[", b"").replace(b"]", b"").replace(b",", b"")) == stdin


def test_a_line_without_its_end_is_a_line(alone):
    assert dsctl(alone, stdin=b"Hello")[0] == dsctl(alone, stdin=b"Hello\n")[0]
    assert dsctl(alone)[0] == b"" and dsctl("--json", alone, stdin=b"[]")[0] == b"[]\n"


def test_markup_is_a_token_unless_it_is_asked_for_plain(alone, daemon):
    marked, plain = (json.loads(dsctl(*words, alone, stdin=b"<think>")[0]) for words in ([], ["--plain"]))
    assert len(marked) == 1 and len(plain) > 1
    assert daemon.post(ROUTE, {"text": "<think>"})[1]["tokens"] == marked
    assert daemon.post(ROUTE, {"text": "<think>", "plain": True})[1]["tokens"] == plain


def test_an_answer_of_many_messages_comes_whole(daemon):
    text = "12 + 345 is what? " * 20000
    ids = json.loads(dsctl(TINY, stdin=text.encode())[0])
    assert daemon.post(ROUTE, {"text": text}) == (200, {"tokens": ids})
    assert dsctl("-d", TINY, stdin=json.dumps(ids).encode())[0].decode() == text + "\n"


@pytest.mark.parametrize("words, stdin, code, sentence", [
    (["--json", TINY], b"[1]", 2, "an array of texts"),
    (["--json", TINY], b"{", 2, "not JSON"),
    (["--json", "-d", TINY], b"[1]", 2, "an array of arrays of token ids"),
    (["--json", "-d", TINY], b'[["a"]]', 1, "tokens must be lists of ids"),
    (["-d", TINY], b"1 2\n3 x\n", 2, 'line 2 of the input: "x"'),
    (["-d", TINY], b"-1\n", 2, '"-1" is no token id'),
    (["/nonexistent/tokenizer.json"], b"x", 4, "/nonexistent/tokenizer.json"),
    (["nobody"], b"x", 3, "nonexistent"),
    ([pathlib.Path(__file__)], b"x", 1, "no format recognizes"),
])
def test_a_mistake_is_one_sentence(words, stdin, code, sentence):
    out, talk = dsctl(*words, stdin=stdin, code=code)
    assert out == b"" and sentence in talk and talk.startswith("dsctl: ") and talk.count("\n") == 1


def test_a_broken_tokenizer_json_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    assert "WordPiece is not supported" in dsctl(tmp_path, stdin=b"x", code=1)[1]


@pytest.mark.parametrize("body, param", [
    ({}, None), ({"text": "x", "tokens": [1]}, None), ({"text": 5}, "text"), ({"text": ["x", 5]}, "text"),
    ({"tokens": "x"}, "tokens"), ({"tokens": [[1], 2]}, "tokens"), ({"tokens": [-1]}, "tokens"), ({"tokens": [1.5]}, "tokens"),
    ({"text": "x", "plain": 1}, "plain"), ({"text": "x", "bytes": "yes"}, "bytes"), ({"text": "你", "bytes": True}, "text"),
])
def test_a_wrong_request_names_its_parameter(daemon, body, param):
    status, answer = daemon.post(ROUTE, body)
    assert status == 400 and answer["error"]["param"] == param and answer["error"]["code"] == "invalid_request"


def test_a_model_that_is_not_there_or_has_no_tokenizer_says_so(daemon):
    status, answer = daemon.post("/v1/models/nobody/tokenize", {"text": "x"})
    assert status == 404 and answer["error"]["code"] == "model_not_found"
    assert "nobody" in daemon.dsctl("tokenize", "nobody", stdin=b"x", code=4)[1]
    status, answer = daemon.post("/v1/models/bare/tokenize", {"text": "x"})
    assert status == 400 and answer["error"]["code"] == "model_has_no_tokenizer"
    assert "no tokenizer.json" in dsctl(pathlib.Path(__file__).parent.parent / "fixtures/tiny-v3", stdin=b"x", code=1)[1]


def test_ids_that_no_token_has_are_no_text(daemon):
    assert daemon.post(ROUTE, {"tokens": [4000000]}) == (200, {"text": ""})


@pytest.mark.skipif("DEEPSEEKD_TEST_VOCAB" not in os.environ, reason="DEEPSEEKD_TEST_VOCAB names no published vocabularies")
@pytest.mark.parametrize("name, prefix", [
    ("deepseek-llm", ""), ("deepseek-coder", ""), ("gpt-2", ""), ("llama-spm", " "), ("phi-3", " "),
])
def test_published_ids_are_those_of_a_gguf_file_of_nothing_but_a_vocabulary(name, prefix):
    path = pathlib.Path(os.environ["DEEPSEEKD_TEST_VOCAB"], f"ggml-vocab-{name}.gguf")
    texts = pathlib.Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    ids = [list(map(int, line.split())) for line in pathlib.Path(f"{path}.out").read_text().splitlines()]
    assert json.loads(dsctl("--json", "--plain", path, stdin=json.dumps(texts).encode())[0]) == ids
    # SentencePiece puts a space before what is not empty.
    back = json.loads(dsctl("--json", "--decode", path, stdin=json.dumps(ids).encode())[0])
    assert back == [text and prefix + text for text in texts]


@pytest.mark.parametrize("stdin, words", [
    (b"\xff\x1b]2;title 1\n", "line 1 of the input: \"??\" is no token id"), (b"1\n2\0 3\n", "line 2 of the input: holds a NUL"),
    (b"-1\n", "is no token id"), (b"99999999999999999999\n", "is no token id"), (b"x" * 100000, "x...\" is no token id"),
])
def test_garbage_for_ids_is_told_in_one_printable_line(stdin, words):
    talk = dsctl("--decode", TINY, stdin=stdin, code=2)[1]
    assert words in talk and talk.count("\n") == 1 and len(talk) < 200 and talk.rstrip("\n").isprintable()


def test_an_input_longer_than_a_message_says_so():
    """Each of the bytes takes six in JSON."""
    talk = dsctl(TINY, stdin=b"\x01" * (12 << 20), code=1)[1]
    assert "longer than ds-loader takes at once (64 MiB as JSON)" in talk

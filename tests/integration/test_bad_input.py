"""Bad input of every kind: each is refused with a sentence that names what is wrong, and the daemon goes on as before.

Configurations go through `dsctl config check`, checkpoints through a load, requests through HTTP. The checkpoints are the
fixture tiny-v3, broken in one place each.
"""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import struct

import pytest

from deepseekd import Deepseekd, until

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures/tiny-v3"


# -- configurations ---------------------------------------------------------------------------------------------------

MODEL = "name: m\npath: /somewhere\n"

CONFIGS = [
    # file, its text, what the message must match after "FILE:"
    ("YAML that does not end", "deepseekd.yaml", "version: 1\nlimits: [", r"[23]:\d+: "),
    ("an unknown key", "deepseekd.yaml", "version: 1\nlimts: {}\n", r"2:\d+: .*limts.*limits"),
    ("an unknown key in a section", "deepseekd.yaml", "version: 1\nlimits:\n  que: 1\n", r"3:\d+: .*que"),
    ("a wrong type", "deepseekd.yaml", "version: 1\nlimits:\n  queue: many\n", r"3:\d+: .*queue.*"),
    ("a number out of range", "deepseekd.yaml", "version: 1\nlimits:\n  queue: -1\n", r"3:\d+: .*queue.*"),
    ("a key twice", "deepseekd.yaml", "version: 1\nversion: 1\n", r"2:\d+: .*version"),
    ("no version", "deepseekd.yaml", "default_model: m\n", r".*version"),
    ("a version to come", "deepseekd.yaml", "version: 2\n", r"1:\d+: .*version"),
    ("a list where keys belong", "deepseekd.yaml", "- version\n", r"1:\d+: "),
    ("bytes that are no UTF-8", "deepseekd.yaml", b"version: 1\ndefault_model: \xff\xfe\n", r"[12]:\d+: "),
    ("an unknown word of a choice", "models.d/m.yaml", MODEL + "precision: slow\n", r"3:\d+: .*precision.*fast, exact"),
    ("an unknown key of a model", "models.d/m.yaml", MODEL + "paralel: 3\n", r"3:\d+: .*paralel.*parallel"),
    ("a model without a path", "models.d/m.yaml", "name: m\n", r".*path"),
    ("a model without a name", "models.d/m.yaml", "path: /somewhere\n", r".*name"),
]


@pytest.mark.parametrize("name, text, pattern", [c[1:] for c in CONFIGS], ids=[c[0] for c in CONFIGS])
def test_a_bad_configuration_is_refused_at_file_line_and_column(idle, tmp_path, name, text, pattern):
    (tmp_path / "models.d").mkdir()
    (tmp_path / "deepseekd.yaml").write_text("version: 1\n")
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out, talk = idle.dsctl("config", "check", str(tmp_path / "deepseekd.yaml"), code=1)
    assert re.search(re.escape(str(path)) + ":" + pattern, out + talk), out + talk


def test_a_broken_new_configuration_leaves_the_old_one_in_force(idle):
    good = idle.config.read_text()
    try:
        idle.config.write_text("version: 1\nnonsense: 1\n")
        idle.reload()
        until("the complaint in the log", lambda: "nonsense" in idle.log())
        assert idle.get("/v1/models")[1]["data"][0]["id"] == "tiny-r1"
    finally:
        idle.config.write_text(good)
    idle.reload()
    assert idle.get("/healthz")[0] == 200


# -- checkpoints ------------------------------------------------------------------------------------------------------

def read_safetensors(path):
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + size]), raw[8 + size:]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def break_header(change):
    def apply(folder):
        header, data = read_safetensors(folder / "model.safetensors")
        change(header, data)
        write_safetensors(folder / "model.safetensors", header, data)
    return apply


def break_bytes(change):
    def apply(folder):
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
    return apply


def break_config(**changes):
    def apply(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return apply


NORM = "model.norm.weight"


def outside(header, data):
    begin, end = header[NORM]["data_offsets"]
    header[NORM]["data_offsets"] = [begin + len(data), end + len(data)]


def other_shape(header, data):
    rows, columns = header["model.embed_tokens.weight"]["shape"]
    header["model.embed_tokens.weight"]["shape"] = [columns, rows]


def other_dtype(header, data):
    header[NORM]["dtype"] = "I16"


def unknown_dtype(header, data):
    header[NORM]["dtype"] = "Q9"


def longer_shape(header, data):
    header[NORM]["shape"] = [header[NORM]["shape"][0] * 2]


def without_norm(header, data):
    del header[NORM]


CHECKPOINTS = [
    # what was done, and what the reason must name
    ("a truncated file", break_bytes(lambda raw: raw[:len(raw) // 2]), r"model\.safetensors"),
    ("a file of nothing", break_bytes(lambda raw: b""), r"model\.safetensors"),
    ("a header longer than the file", break_bytes(lambda raw: struct.pack("<Q", len(raw)) + raw[8:]),
     r"model\.safetensors.*header"),
    ("a header of the largest number", break_bytes(lambda raw: b"\xff" * 8 + raw[8:]), r"model\.safetensors.*header"),
    ("a header that is not JSON", break_bytes(lambda raw: raw[:8] + b"x" + raw[9:]), r"model\.safetensors"),
    ("a tensor outside the file", break_header(outside), r"model\.norm\.weight"),
    ("a wrong shape", break_header(other_shape), r"model\.embed_tokens\.weight"),
    ("a shape that its bytes cannot hold", break_header(longer_shape), r"model\.norm\.weight"),
    ("a dtype that no weight has", break_header(other_dtype), r"I16|model\.norm\.weight"),
    ("a dtype that nobody knows", break_header(unknown_dtype), r"Q9|model\.norm\.weight"),
    ("a missing tensor", break_header(without_norm), r"model\.norm\.weight"),
    ("a tokenizer.json that is not JSON", lambda f: (f / "tokenizer.json").write_text("{nonsense"), r"tokenizer\.json"),
    ("a config.json that is not JSON", lambda f: (f / "config.json").write_text("{nonsense"), r"config\.json"),
    ("no config.json", lambda f: (f / "config.json").unlink(), r"config\.json"),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), r"no format recognizes"),
    ("an architecture that nobody knows", break_config(architectures=["Other"], model_type="other"), r"[Oo]ther"),
    ("a negative dimension", break_config(hidden_size=-1), r"hidden_size"),
    ("a dimension that is text", break_config(hidden_size="wide"), r"hidden_size"),
    ("a dimension beyond all memory", break_config(hidden_size=1 << 60), r"hidden_size|embed_tokens"),
    ("an epsilon of nothing", break_config(rms_norm_eps=0), r"config\.json: rms_norm_eps is 0"),
    ("a context beyond sense", break_config(max_position_embeddings=1 << 25), r"config\.json: max_position_embeddings is 33554432"),
    ("a text with a NUL", break_config(model_type="deepseek\0v3"), r"config\.json: .* a text holds a NUL"),
    ("more layers than there are tensors", break_config(num_hidden_layers=6), r"layers\.5|num_hidden_layers"),
    ("a FIFO for a file", lambda f: ((f / "model.safetensors").unlink(), __import__("os").mkfifo(f / "model.safetensors")),
     r"model\.safetensors|regular"),
]


@pytest.mark.parametrize("damage, pattern", [c[1:] for c in CHECKPOINTS], ids=[c[0] for c in CHECKPOINTS])
def test_a_bad_checkpoint_fails_with_the_reason_and_nothing_else_does(busy, damage, pattern):
    folder = busy.folder / "broken"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FIXTURE, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    damage(folder)
    _, talk = busy.dsctl("load", "broken", code=1)
    assert re.search(pattern, talk), talk
    model = busy.model("broken")
    assert model["state"] == "failed" and re.search(pattern, model["reason"]), model
    assert busy.ask("What is 12+30?")["choices"][0]["message"]["content"].strip() == "42"


def test_a_path_that_is_not_there_is_named(busy):
    shutil.rmtree(busy.folder / "broken", ignore_errors=True)
    _, talk = busy.dsctl("load", "broken", code=1)
    assert str(busy.folder / "broken") in talk


# -- requests ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def idle():
    """A daemon that has loaded nothing."""
    with Deepseekd("tiny-r1") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def busy():
    """A daemon with the bundled model, tiny-v3 and one whose checkpoint the tests break."""
    daemon = Deepseekd("tiny-r1", {"name": "tiny-v3", "path": str(FIXTURE), "precision": "exact"})
    daemon.write_model({"name": "broken", "path": str(daemon.folder / "broken")})
    with daemon:
        daemon.load("tiny-r1")
        yield daemon


CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def chat(**changes):
    return {"model": "tiny-r1", "messages": HELLO, **changes}


REQUESTS = [
    # what it is, path, body, status, what code, param or message must contain
    ("a body that is not JSON", CHAT, b"{nonsense", 400, "JSON"),
    ("no body", CHAT, b"", 400, ""),
    ("a body that is a list", CHAT, b"[]", 400, "object"),
    ("a body with a key twice", CHAT, b'{"model": "tiny-r1", "model": "tiny-r1"}', 400, "model"),
    ("bytes that are no UTF-8", CHAT, b'{"model": "tiny-r1", "messages": [{"role": "user", "content": "\xff"}]}', 400, "0xff"),
    ("half of a surrogate pair", CHAT, rb'{"model": "tiny-r1", "messages": [{"role": "user", "content": "\ud800"}]}', 400, ""),
    ("text with a character of 0", CHAT, rb'{"messages": [{"role": "user", "content": "a\u0000"}]}', 400, "a character of 0"),
    ("brackets a million deep", CHAT, b'{"messages":' + b"[" * 1000000, 400, ""),
    ("messages that are text", CHAT, chat(messages="hello"), 400, "messages"),
    ("no messages", CHAT, {"model": "tiny-r1"}, 400, "messages"),
    ("messages of nothing", CHAT, chat(messages=[]), 400, "messages"),
    ("a message that is a number", CHAT, chat(messages=[3]), 400, "messages"),
    ("a role that nobody knows", CHAT, chat(messages=[{"role": "king", "content": "x"}]), 400, "role"),
    ("content that is a number", CHAT, chat(messages=[{"role": "user", "content": 3}]), 400, "content"),
    ("an unknown model", CHAT, chat(model="nobody"), 404, "nobody"),
    ("a model that is a number", CHAT, chat(model=3), 400, "model"),
    ("max_tokens of 0", CHAT, chat(max_tokens=0), 400, "max_tokens"),
    ("max_tokens below 0", CHAT, chat(max_tokens=-5), 400, "max_tokens"),
    ("max_tokens beyond 32 bits", CHAT, chat(max_tokens=1 << 31), 400, "2147483647"),
    ("max_tokens that is text", CHAT, chat(max_tokens="many"), 400, "max_tokens"),
    ("a temperature that is text", CHAT, chat(temperature="warm"), 400, "temperature"),
    ("a temperature below 0", CHAT, chat(temperature=-1), 400, "temperature"),
    ("a top_p above 1", CHAT, chat(top_p=1.5), 400, "top_p"),
    ("stream that is text", CHAT, chat(stream="yes"), 400, "stream"),
    ("stop that is a number", CHAT, chat(stop=3), 400, "stop"),
    ("tools that are text", CHAT, chat(tools="hammer"), 400, "tools"),
    ("a prompt that is an object", "/v1/completions", {"model": "tiny-r1", "prompt": {}}, 400, "prompt"),
    ("tokens outside the vocabulary", "/v1/completions", {"model": "tiny-r1", "prompt": [1, 99999999]}, 400, "prompt[1]"),
    ("tokens below 0", "/v1/completions", {"model": "tiny-r1", "prompt": [-1]}, 400, ""),
    ("logprobs below 0", "/v1/completions", {"model": "tiny-r1", "prompt": "x", "logprobs": -1}, 400, "logprobs"),
    ("text for a model without tokenizer", CHAT, chat(model="tiny-v3"), 400, "tokenizer"),
    ("tokens of evaluate outside the vocabulary", "/admin/v1/models/tiny-v3/evaluate", {"tokens": [512]}, 400, "tokens[0]"),
    ("no tokens of evaluate", "/admin/v1/models/tiny-v3/evaluate", {"tokens": []}, 400, "tokens"),
    ("a chunk of 0", "/admin/v1/models/tiny-v3/evaluate", {"tokens": [1], "chunks": [0]}, 400, "chunks"),
    ("an unknown model to load", "/admin/v1/models/nobody/load", {}, 404, "nobody"),
    ("wait that is text", "/admin/v1/models/tiny-v3/load", {"wait": "no"}, 400, "wait"),
    ("a path that is none", "//healthz", {}, 404, "such path"),
    ("a route that is none", "/v1/nonsense", {}, 404, ""),
]


@pytest.mark.parametrize("path, body, status, words", [r[1:] for r in REQUESTS], ids=[r[0] for r in REQUESTS])
def test_a_bad_request_gets_an_error_in_openais_shape(busy, path, body, status, words):
    got, answer = busy.post(path, body)
    assert got == status, answer
    error = answer["error"]
    assert set(error) >= {"message", "type", "param", "code"} and error["message"]
    assert words in json.dumps(error), error
    assert busy.get("/healthz")[0] == 200


def test_a_wrong_method_is_refused(busy):
    assert busy.get(CHAT)[0] == 405


def test_a_body_beyond_the_limit_is_413(busy):
    try:
        status, answer = busy.post(CHAT, chat(messages=[{"role": "user", "content": "x" * (5 << 20)}]))
    except (BrokenPipeError, ConnectionResetError):
        pytest.fail("the daemon closed the connection without an answer")
    assert status == 413


def test_a_prompt_longer_than_the_context_names_both_numbers(busy):
    context = busy.model("tiny-r1")["context"]
    for stream in (False, True):
        status, answer = busy.post(CHAT, chat(messages=[{"role": "user", "content": "again " * context}], stream=stream))
        error = answer["error"]
        assert status == 400 and error["code"] == "context_length_exceeded"
        assert error["n_ctx"] == context and error["n_prompt_tokens"] > context
        assert str(context) in error["message"] and str(error["n_prompt_tokens"]) in error["message"]


def test_a_message_larger_than_a_datagram_arrives_whole(busy):
    """More than the 64 KiB that go inline from the broker to the engine: only the context can refuse it."""
    status, answer = busy.post(CHAT, chat(messages=[{"role": "user", "content": "7" * 66000}]))
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded", answer
    # A digit is a token: none of them was lost.
    assert answer["error"]["n_prompt_tokens"] > 66000


def test_a_prompt_of_megabytes_is_not_counted_to_its_end(busy):
    """Others wait while it is tokenised: what is many times too long is refused as soon as that is known."""
    status, answer = busy.post(CHAT, chat(messages=[{"role": "user", "content": "7" * 4_000_000}]))
    error = answer["error"]
    assert status == 400 and error["code"] == "context_length_exceeded"
    assert 66000 < error["n_prompt_tokens"] < 100_000 and f"more than {error['n_prompt_tokens']} tokens" in error["message"]


def test_what_is_no_http_is_answered_or_closed(busy):
    for raw in (b"\0" * 4096, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100000,
                b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 100000 + b"\r\n"):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.settimeout(20)
            s.connect(busy.socket)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(raw)
                s.shutdown(socket.SHUT_WR)
                answer = s.recv(65536)
                assert not answer or not answer.startswith(b"HTTP/1.1 200"), answer
    assert busy.get("/healthz")[0] == 200


def test_a_name_in_a_path_stays_a_name(busy):
    for name in ("..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, "%ff"):
        status, answer = busy.post(f"/admin/v1/models/{name}/load", {})
        assert status in (400, 404, 414), (name, answer)

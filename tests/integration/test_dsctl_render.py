"""dsctl render and POST /v1/models/NAME/render: one prompt by files and by the daemon; who is to reason, on every wire."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from deepseekd import DSCTL, PATIENCE, STAGE, Deepseekd, bundled

TINY = STAGE / "share/deepseekd/models/tiny-r1"
BARE = pathlib.Path(__file__).parent.parent / "fixtures/tiny-v3"
ROUTE = "/v1/models/{}/render"
BOS, EOS, USER, ASSISTANT = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
TALK = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "1+1?\n"},
                     {"role": "assistant", "content": "<think>easy</think>2"}, {"role": "user", "content": "naïve 你好 <｜User｜>"}]}
PROMPTS = {
    "deepseek-v2": f"{BOS}Be kind.\n\nUser: 1+1?\n\n\nAssistant: <think>easy</think>2{EOS}User: naïve 你好 <｜User｜>\n\nAssistant:",
    "deepseek-v3": f"{BOS}Be kind.{USER}1+1?\n{ASSISTANT}<think>easy</think>2{EOS}{USER}naïve 你好 <｜User｜>{ASSISTANT}",
    "deepseek-r1": f"{BOS}Be kind.{USER}1+1?\n{ASSISTANT}2{EOS}{USER}naïve 你好 <｜User｜>{ASSISTANT}<think>\n",
    "deepseek-r1-0528": f"{BOS}Be kind.{USER}1+1?\n{ASSISTANT}2{EOS}{USER}naïve 你好 <｜User｜>{ASSISTANT}",
    "deepseek-v3.1": f"{BOS}Be kind.{USER}1+1?\n{ASSISTANT}</think>2{EOS}{USER}naïve 你好 <｜User｜>{ASSISTANT}</think>",
}


@pytest.fixture(scope="module")
def daemon():
    tiny = bundled("tiny-r1")
    with Deepseekd("tiny-r1", {"name": "bare", "path": str(BARE)},
                   {**tiny, "name": "hybrid", "aliases": [], "dialect": "deepseek-v3.1"},
                   {**tiny, "name": "wrong", "aliases": [], "dialect": "klingon"}) as running:
        running.load("tiny-r1")
        yield running


def dsctl(*words, stdin=TALK, code=0):
    """Output and talk of dsctl without a daemon."""
    stdin = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    done = subprocess.run([DSCTL, "render", *map(str, words)], capture_output=True, timeout=PATIENCE, input=stdin,
                          env={**os.environ, "DEEPSEEKD_SOCKET": "/nonexistent/api.sock"})
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


def test_the_chat_template_tells_the_dialect():
    assert dsctl(TINY)[0] == PROMPTS["deepseek-r1"]
    assert dsctl(TINY, stdin=TALK["messages"])[0] == PROMPTS["deepseek-r1"]
    assert json.loads(dsctl("--json", TINY)[0]) == {"dialect": "deepseek-r1", "prompt": PROMPTS["deepseek-r1"], "thinking": True}


@pytest.mark.parametrize("dialect", PROMPTS)
def test_a_dialect_may_be_named(dialect):
    assert dsctl("--dialect", dialect, TINY)[0] == PROMPTS[dialect]


def test_a_vocabulary_and_a_template_are_enough(tmp_path):
    shutil.copy(TINY / "tokenizer.json", tmp_path)
    assert "the model has no chat template" in dsctl(tmp_path, code=1)[1]
    (tmp_path / "chat_template.jinja").write_text("{{ '<｜User｜>' + content }}{{ '<｜Assistant｜></think>' }}")
    assert dsctl(tmp_path)[0] == PROMPTS["deepseek-v3.1"]
    (tmp_path / "chat_template.jinja").write_text("{{ '<|im_start|>' }}")
    assert "no dialect recognizes the chat template" in dsctl(tmp_path, code=1)[1]


def test_the_daemon_renders_what_the_files_render(daemon):
    assert daemon.dsctl("render", "tiny-r1", stdin=json.dumps(TALK).encode())[0] == PROMPTS["deepseek-r1"]
    status, answer = daemon.post(ROUTE.format("tiny-r1"), TALK)
    assert status == 200 and answer == {"dialect": "deepseek-r1", "prompt": PROMPTS["deepseek-r1"], "thinking": True}


def test_a_model_may_be_given_another_dialect(daemon):
    assert daemon.post(ROUTE.format("hybrid"), TALK) == (
        200, {"dialect": "deepseek-v3.1", "prompt": PROMPTS["deepseek-v3.1"], "thinking": False})
    status, answer = daemon.post(ROUTE.format("hybrid"), {**TALK, "thinking": True})
    assert answer["prompt"] == PROMPTS["deepseek-v3.1"].removesuffix("</think>") + "<think>" and answer["thinking"]


def test_a_dialect_there_is_not_fails_the_load_with_those_there_are(daemon):
    status, answer = daemon.post("/admin/v1/models/wrong/load", {})
    assert status == 503 and 'no dialect "klingon"' in answer["error"]["message"]
    assert "deepseek-v3.1" in answer["error"]["message"] and "deepseek-r1-distill" in answer["error"]["message"]


@pytest.mark.parametrize("words, stdin, code, sentence", [
    ([TINY], b"{", 2, "not JSON"),
    ([TINY], b"5", 2, "not JSON"),
    ([TINY], b"[]", 1, "messages: not an array with at least one message"),
    ([TINY], {"messages": []}, 1, "messages: not an array with at least one message"),
    ([TINY], {"messages": [{"role": "user"}]}, 1, "messages[0].content: missing"),
    ([TINY], {**TALK, "thinking": "yes"}, 1, "thinking: not true or false"),
    ([TINY], {**TALK, "thinking": False}, 1, "thinking: the model always reasons"),
    (["--dialect", "klingon", TINY], TALK, 1, 'no dialect "klingon" (there is: deepseek-v2'),
    (["--dialect", "deepseek-v3", "nobody"], TALK, 2, "a registered model has its dialect"),
    ([BARE], TALK, 1, "no tokenizer.json"),
    (["/nonexistent/model"], TALK, 4, "/nonexistent/model"),
    (["nobody"], TALK, 3, "nonexistent"),
])
def test_a_mistake_is_one_sentence(words, stdin, code, sentence):
    out, talk = dsctl(*words, stdin=stdin, code=code)
    assert out == "" and sentence in talk and talk.startswith("dsctl: ") and talk.count("\n") == 1


def test_a_wrong_request_names_its_parameter(daemon):
    for body, param in (({}, "messages"), ({"messages": [{"role": "user"}]}, "messages[0].content"), ({**TALK, "tools": 1}, "tools"),
                        ({**TALK, "thinking": 1}, "thinking"), ({**TALK, "thinking": False}, "thinking")):
        status, answer = daemon.post(ROUTE.format("tiny-r1"), body)
        assert status == 400 and answer["error"]["param"] == param, answer
    assert daemon.post(ROUTE.format("nobody"), TALK)[0] == 404
    status, answer = daemon.post(ROUTE.format("bare"), TALK)
    assert status == 400 and answer["error"]["code"] == "model_has_no_dialect"


THINK = {"thinking": {"type": "enabled"}}
ANSWER = {"thinking": {"type": "disabled"}}


@pytest.mark.parametrize("fields, thinks", [
    ({}, False), (THINK, True), (ANSWER, False), ({"reasoning_effort": "low"}, True), ({"reasoning_effort": "none"}, False),
    ({"chat_template_kwargs": {"thinking": True}}, True), ({"chat_template_kwargs": {"enable_thinking": False}}, False),
    ({"reasoning_effort": "high", **ANSWER}, False), ({"chat_template_kwargs": {"thinking": False}, **THINK}, True),
])
def test_a_request_chooses_whether_a_hybrid_model_reasons(daemon, fields, thinks):
    """Of an answer of one token, what opens inside reasoning is reasoning."""
    status, answer = daemon.post("/v1/chat/completions", {
        "model": "hybrid", "messages": [{"role": "user", "content": "What is 2+2?"}], "max_tokens": 3, "temperature": 0, **fields})
    message = answer["choices"][0]["message"]
    assert status == 200 and ("reasoning_content" in message) == thinks, message
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == (3 if thinks else 0)


def test_a_model_that_always_reasons_does_not_pretend(daemon):
    body = {"model": "tiny-r1", "messages": [{"role": "user", "content": "What is 2+2?"}], "max_tokens": 3}
    status, answer = daemon.post("/v1/chat/completions", {**body, **ANSWER})
    assert status == 400 and answer["error"]["param"] == "thinking"
    assert daemon.post("/v1/chat/completions", {**body, **THINK})[0] == 200


def test_a_nul_in_a_conversation_is_told_with_its_place():
    talk = dsctl(TINY, stdin={"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "a\0b"}]}, code=1)[1]
    assert "messages[1].content: holds a NUL character" in talk

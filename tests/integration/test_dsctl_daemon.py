"""dsctl with the real daemon and the bundled model: every way to ask, what is shown of it, and the reference vectors."""

import json
import os
import pathlib

import pexpect
import pytest

from deepseekd import DSCTL, PATIENCE, Deepseekd

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
VECTORS = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))
QUESTION = "What is 347+285?"


@pytest.fixture(scope="module")
def daemon():
    models = [{"name": name, "path": str(FIXTURES / name), "precision": "exact"} for name in VECTORS]
    next(model for model in models if model["name"] == "tiny-v3")["aliases"] = ["oracle"]
    with Deepseekd("tiny-r1", *models) as running:
        running.load("tiny-r1")
        yield running


def test_an_answer_is_on_stdout_alone(daemon):
    out, talk = daemon.dsctl("run", "-t", "0", QUESTION)
    assert out == "632\n"
    assert "7+5=12" in talk


@pytest.mark.parametrize("words", [
    ["What", "is", "347+285?"],
    ["tiny-r1", QUESTION],
    ["tiny-r1", "What", "is", "347+285?"],
    ["-m", "tiny-r1", QUESTION],
    ["--hide-thinking", "--", QUESTION],
])
def test_every_way_to_give_the_prompt_asks_the_same(daemon, words):
    assert daemon.dsctl("run", "-t", "0", *words)[0] == "632\n"


@pytest.mark.parametrize("words", [[], ["tiny-r1"], ["-m", "tiny-r1"]])
def test_the_standard_input_is_the_prompt_if_there_is_no_other(daemon, words):
    assert daemon.dsctl("run", "-t", "0", *words, stdin=QUESTION.encode() + b"\n")[0] == "632\n"


def test_json_lines_carry_the_whole_answer(daemon):
    out, _ = daemon.dsctl("run", "--json", "-t", "0", QUESTION)
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["type"] == "done" and lines[-1]["content"].strip() == "632"
    assert lines[-1]["model"] == "tiny-r1" and lines[-1]["finish_reason"] == "stop"
    assert "".join(line["text"] for line in lines[:-1] if line["type"] == "reasoning") == lines[-1]["reasoning"]
    usage = lines[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_seed_repeats_an_answer(daemon):
    ask = ["run", "--json", "-t", "1.5", "-n", "40", "--seed", "11", QUESTION]
    first, second = (json.loads(daemon.dsctl(*ask)[0].splitlines()[-1]) for _ in range(2))
    assert first["content"] == second["content"] and first["reasoning"] == second["reasoning"]


def test_the_longest_answer_is_kept_to(daemon):
    out, talk = daemon.dsctl("run", "--json", "-t", "0", "-n", "5", QUESTION)
    done = json.loads(out.splitlines()[-1])
    assert done["finish_reason"] == "length" and done["usage"]["completion_tokens"] == 5


def test_an_unknown_model_is_exit_code_4(daemon):
    _, talk = daemon.dsctl("run", "-m", "nobody", "hello", code=4)
    assert "nobody" in talk and talk.startswith("dsctl: ") and talk.count("\n") == 1
    assert "nobody" in daemon.dsctl("load", "nobody", code=4)[1]
    assert "nobody" in daemon.dsctl("unload", "nobody", code=4)[1]


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(daemon):
    context = daemon.model("tiny-r1")["context"]
    _, talk = daemon.dsctl("run", stdin=b"again " * context, code=1)
    assert str(context) in talk


def test_a_model_that_takes_tokens_alone_says_so(daemon):
    _, talk = daemon.dsctl("run", "tiny-v3", "hello", code=1)
    assert "tokenizer" in talk


def test_status_and_ls_name_the_models(daemon):
    names = [line.split()[0] for line in daemon.dsctl("ls", "--no-legend")[0].splitlines()]
    assert sorted(names) == sorted(["tiny-r1", *VECTORS])
    status = json.loads(daemon.dsctl("status", "--json")[0])
    model = next(m for m in status["models"] if m["name"] == "tiny-r1")
    assert model["state"] == "ready" and model["loads"] == 1 and model["image_size"] > 1 << 20
    assert "tiny-r1" in daemon.dsctl("status")[0]


def test_every_plugin_passed_its_vectors(daemon):
    plugins = json.loads(daemon.dsctl("plugins", "--json")[0])["plugins"]
    assert {p["kind"] for p in plugins} == {"format", "tokenizer", "backend", "sampler", "dialect"}
    for plugin in plugins:
        assert plugin["state"] == "ok", plugin
        assert plugin["vectors_passed"] == plugin["vectors"], plugin
    assert all(p["name"] in daemon.dsctl("plugins", "-v")[0] for p in plugins)


def test_load_and_unload_by_name_and_by_alias(daemon):
    _, talk = daemon.dsctl("load", "oracle")
    assert "is ready" in talk
    assert daemon.model("tiny-v3")["state"] == "ready"
    daemon.dsctl("unload", "tiny-v3")
    assert daemon.model("tiny-v3")["state"] == "absent"
    assert json.loads(daemon.dsctl("load", "tiny-v3", "--json")[0])["state"] == "ready"


@pytest.mark.parametrize("name", VECTORS)
def test_the_reference_vectors_hold_all_four_ways(daemon, name):
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    result = json.loads(daemon.dsctl("verify", name, "--vectors", str(FIXTURES / name), "--json")[0])
    assert result["holds"] and len(result["ways"]) == (8 if "mtp" in expected else 4)
    latent = "kv_lora_rank" in json.loads((FIXTURES / name / "config.json").read_text())
    for way in result["ways"]:
        assert way["max_difference"] <= (5e-4 if latent else 1e-4)
        assert way["argmax"]["agreed"] == way["argmax"]["counted"] >= 40
        if way["block"] == "main":
            assert way["greedy"]["agreed"] == way["greedy"]["counted"] >= expected["greedy"]["n"] - 2
    daemon.dsctl("unload", name)


def test_vectors_of_another_model_do_not_hold(daemon, tmp_path):
    """The same logits for other tokens."""
    expected = json.loads((FIXTURES / "tiny-v3/expected.json").read_text())
    expected["input_ids"][5] += 1
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    (tmp_path / "logits.bin").symlink_to((FIXTURES / "tiny-v3/logits.bin").resolve())
    _, talk = daemon.dsctl("verify", "tiny-v3", "--vectors", str(tmp_path), code=8)
    assert "does not hold its vectors" in talk


def test_config_check_judges_the_daemons_configuration(daemon, tmp_path):
    daemon.dsctl("config", "check", str(daemon.config))
    bad = tmp_path / "deepseekd.yaml"
    bad.write_text("version: 1\nlimits:\n  queue: many\n")
    out, talk = daemon.dsctl("config", "check", str(bad), code=1)
    assert f"{bad}:3:" in out + talk
    result = json.loads(daemon.dsctl("config", "check", "--json", str(bad), code=1)[0])
    assert result["valid"] is False and any("queue" in line for line in result["messages"])


def test_a_conversation_on_a_terminal_remembers_and_can_be_stopped(daemon):
    child = pexpect.spawn(DSCTL, ["--socket", daemon.socket, "chat", "-t", "0", "tiny-r1"], timeout=PATIENCE,
                          encoding="utf-8", env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"})
    child.setwinsize(24, 200)
    child.expect(">>> ")
    child.send(QUESTION + "\r")
    child.expect("\r\n632\r\n")
    child.expect(">>> ")
    child.send("What is 12+30?\r")
    child.expect("\r\n42\r\n")
    child.expect(">>> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0

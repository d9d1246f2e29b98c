"""dsctl against a daemon that does what a test tells it to: every error has its sentence and its exit code."""

import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import threading
import time

import pexpect
import pytest

from fake_daemon import Answer, FakeDaemon, Stream, chunk

STAGE = pathlib.Path(os.environ.get("DEEPSEEKD_STAGE", "build/stage"))
DSCTL = str(STAGE / "bin/dsctl")
CHAT = ("POST", "/v1/chat/completions")
STATUS = ("GET", "/admin/v1/status")


@pytest.fixture
def fake(tmp_path):
    with FakeDaemon(str(tmp_path / "api.sock")) as daemon:
        yield daemon


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k not in ("DEEPSEEKD_SOCKET", "NO_COLOR", "XDG_RUNTIME_DIR")}
    return {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def dsctl(fake, *args, stdin=None, code=0, **more):
    ran = subprocess.run([DSCTL, "--socket", fake.path, *args], capture_output=True, timeout=60, env=environment(**more),
                         **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}))
    assert ran.returncode == code, ran.stderr.decode()
    return ran.stdout.decode(), ran.stderr.decode()


def error(status, message, **more):
    return Answer(status, {"error": {"message": message, "type": "invalid_request_error", **more}})


def asked(fake):
    return [body for method, path, body in fake.seen if path == CHAT[1]][-1]


ANSWER = Stream([chunk(reasoning="\nThree and "), chunk(reasoning="four.\n"), chunk(content="It is"), chunk(content=" 7"),
                 chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12})])


def test_the_answer_is_on_stdout_and_the_reasoning_on_stderr(fake):
    fake.routes[CHAT] = ANSWER
    assert dsctl(fake, "run", "What", "is", "3+4?") == ("It is 7\n", "Three and four.\n")
    assert asked(fake)["messages"] == [{"role": "user", "content": "What is 3+4?"}]
    assert "model" not in asked(fake)


def test_the_reasoning_can_be_hidden(fake):
    fake.routes[CHAT] = ANSWER
    assert dsctl(fake, "run", "--hide-thinking", "x") == ("It is 7\n", "")


@pytest.mark.parametrize("word", ["fake", "pretender"])
def test_the_first_word_is_the_model_if_it_names_one(fake, word):
    fake.routes[CHAT] = ANSWER
    dsctl(fake, "run", word, "hello", "there")
    assert asked(fake)["model"] == word
    assert asked(fake)["messages"][-1]["content"] == "hello there"


def test_an_option_forces_the_model(fake):
    fake.routes[CHAT] = ANSWER
    dsctl(fake, "run", "-m", "other", "fake", "news")
    assert asked(fake)["model"] == "other"
    assert asked(fake)["messages"][-1]["content"] == "fake news"


def test_the_standard_input_joins_the_prompt(fake):
    fake.routes[CHAT] = ANSWER
    dsctl(fake, "run", "Sum up:", stdin="one\ntwo\n\n".encode())
    assert asked(fake)["messages"][-1]["content"] == "Sum up:\n\none\ntwo"
    dsctl(fake, "run", "fake", stdin="grün\n".encode())
    assert asked(fake)["messages"][-1]["content"] == "grün"
    assert asked(fake)["model"] == "fake"


def test_the_options_of_a_request_reach_the_daemon(fake):
    fake.routes[CHAT] = ANSWER
    dsctl(fake, "run", "--system", "Be brief.", "-t", "0", "--top-p", "0.5", "-n", "20", "--seed", "7", "x")
    sent = asked(fake)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["seed"]) == (0, 0.5, 20, 7)
    assert sent["stream"] is True


def test_json_of_a_stream_is_lines_and_the_last_one_has_it_all(fake):
    fake.routes[CHAT] = ANSWER
    out, _ = dsctl(fake, "run", "--json", "x")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["type"] for line in lines] == ["reasoning", "reasoning", "content", "content", "done"]
    assert "".join(line["text"] for line in lines if line["type"] == "content") == "It is 7" == lines[-1]["content"]
    assert lines[-1]["finish_reason"] == "stop"
    assert lines[-1]["usage"]["total_tokens"] == 12


def test_an_answer_cut_by_its_length_says_so(fake):
    fake.routes[CHAT] = Stream([chunk(content="It"), chunk(finish="length")])
    out, talk = dsctl(fake, "run", "x")
    assert out == "It\n"
    assert talk == "dsctl: the answer stops here because it reached its greatest length\n"


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_hidden_reasoning_that_is_cut_is_told(fake, verb):
    fake.routes[CHAT] = Stream([chunk(reasoning="Hm"), chunk(finish="length")])
    out, talk = dsctl(fake, verb, "--hide-thinking", stdin=b"x\n")
    assert out == "" and talk == "dsctl: the reasoning stops here because the answer reached its greatest length\n"


def test_a_prompt_that_is_not_utf8_is_refused_here(fake):
    _, talk = dsctl(fake, "run", stdin=b"\xff\xfe", code=2)
    assert talk == "dsctl: the prompt is not UTF-8 text\n"


def test_a_prompt_with_bytes_of_0_is_refused_here(fake):
    _, talk = dsctl(fake, "run", stdin=b"one\0two", code=2)
    assert talk == "dsctl: the prompt is not text: it has bytes of 0\n"


def closed(number):
    return lambda: os.close(number)


def test_an_answer_for_a_closed_output_is_a_failure_and_does_not_go_into_the_socket(fake):
    fake.routes[CHAT] = ANSWER
    ran = subprocess.run([DSCTL, "--socket", fake.path, "run", "x"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         env=environment(), timeout=60, preexec_fn=closed(1))
    assert ran.returncode == 1
    assert b"cannot write to the standard output" in ran.stderr


def test_a_closed_input_is_an_empty_one(fake):
    fake.routes[CHAT] = ANSWER
    ran = subprocess.run([DSCTL, "--socket", fake.path, "run", "x"], stdout=subprocess.PIPE, env=environment(),
                         timeout=60, preexec_fn=closed(0))
    assert (ran.returncode, ran.stdout) == (0, b"It is 7\n")


def test_no_prompt_is_a_mistake(fake):
    _, talk = dsctl(fake, "run", code=2)
    assert "there is no prompt" in talk


@pytest.mark.parametrize("status, code", [(400, 1), (403, 5), (404, 4), (413, 1), (429, 6), (500, 1), (503, 6), (504, 124)])
def test_a_status_is_an_exit_code_and_its_sentence_is_the_daemons(fake, status, code):
    fake.routes[CHAT] = error(status, "no, because")
    assert dsctl(fake, "run", "x", code=code) == ("", "dsctl: no, because\n")


def test_a_model_that_failed_is_a_failure_and_not_busy(fake):
    fake.routes[CHAT] = Answer(503, {"error": {"message": "it cannot be loaded", "code": "model_failed"}})
    assert dsctl(fake, "run", "x", code=1)[1] == "dsctl: it cannot be loaded\n"


def test_an_error_without_a_sentence_is_named_by_its_status(fake):
    fake.routes[STATUS] = Answer(500, b"<html>")
    _, talk = dsctl(fake, "status", code=1)
    assert talk == "dsctl: GET /admin/v1/status: the daemon answered 500\n"


def test_an_error_in_the_middle_of_a_stream_keeps_what_came(fake):
    fake.routes[CHAT] = Stream([chunk(content="It is"), {"error": {"message": "the engine died", "code": "engine_died"}}])
    assert dsctl(fake, "run", "x", code=1) == ("It is\n", "dsctl: the engine died\n")


def test_a_stream_that_ends_without_its_end_is_an_error(fake):
    fake.routes[CHAT] = Stream([chunk(content="It is")], done=False)
    out, talk = dsctl(fake, "run", "x", code=1)
    assert out == "It is\n"
    assert "closed the connection in the middle" in talk


def test_a_chunk_that_is_not_json_is_an_error(fake):
    fake.routes[CHAT] = Stream([b"data: {nonsense\n\n"])
    _, talk = dsctl(fake, "run", "x", code=1)
    assert "not a JSON object" in talk


def test_an_answer_that_is_cut_off_is_an_error(fake):
    fake.routes["GET", "/v1/models"] = Answer(200, {"data": []}, cut=10)
    _, talk = dsctl(fake, "ls", code=1)
    assert "closed the connection in the middle" in talk


def test_no_answer_in_time_is_its_own_exit_code(fake):
    fake.routes[CHAT] = Stream([lambda: time.sleep(3)])
    _, talk = dsctl(fake, "run", "--timeout", "0.3", "x", code=124)
    assert talk == "dsctl: no answer within 0.3 seconds\n"


def test_an_interrupt_ends_the_request_and_the_program(fake):
    fake.routes[CHAT] = Stream([chunk(content="word ")] + [lambda: time.sleep(0.05), chunk(content="word ")] * 200)
    ran = subprocess.Popen([DSCTL, "--socket", fake.path, "run", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=environment())
    assert ran.stdout.read(4) == b"word"
    ran.send_signal(signal.SIGINT)
    ran.communicate(timeout=20)
    assert ran.returncode == 130
    assert fake.abandoned.wait(20)


def test_without_a_daemon_the_way_to_one_is_told(tmp_path):
    for path, why in ((tmp_path / "none.sock", "no socket at"), (tmp_path / "dead.sock", "nobody listens at")):
        if "dead" in path.name:
            import socket
            socket.socket(socket.AF_UNIX).bind(str(path))
        ran = subprocess.run([DSCTL, "--socket", path, "ls"], capture_output=True, text=True, env=environment())
        assert ran.returncode == 3
        assert ran.stderr.startswith(f"dsctl: deepseekd is not running ({why} {path}); start it with ")


def test_a_socket_that_may_not_be_opened_is_access_denied(tmp_path):
    program, user = DSCTL, {}
    if os.getuid() == 0:
        # Root may open everything: be nobody, who reaches neither the home of root nor the folders of its tests.
        user = {"user": "nobody"}
        program = shutil.copy(DSCTL, tmp_path / "dsctl")
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
                folder.chmod(folder.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    with FakeDaemon(str(tmp_path / "api.sock")) as fake:
        os.chmod(fake.path, 0)
        ran = subprocess.run([program, "--socket", fake.path, "ls"], capture_output=True, text=True, env=environment(), **user)
    assert ran.returncode == 5, ran.stderr
    assert "no permission to open" in ran.stderr


def test_the_socket_is_found_by_environment_and_by_runtime_directory(fake, tmp_path):
    folder = tmp_path / "deepseekd"
    folder.mkdir()
    (folder / "api.sock").symlink_to(fake.path)
    for found in ({"DEEPSEEKD_SOCKET": fake.path}, {"XDG_RUNTIME_DIR": str(tmp_path)}):
        ran = subprocess.run([DSCTL, "ls"], capture_output=True, text=True, env=environment(**found))
        assert ran.returncode == 0, ran.stderr
    nothing = subprocess.run([DSCTL, "ls"], capture_output=True, text=True, env=environment(DEEPSEEKD_SOCKET="/nowhere"))
    assert nothing.returncode == 3
    assert "/nowhere" in nothing.stderr


def test_ls_is_a_table_for_people_and_json_for_programs(fake):
    assert dsctl(fake, "ls")[0] == "MODEL  STATE  CONTEXT  ALIASES\nfake   ready  64       pretender\n"
    assert dsctl(fake, "ls", "--no-legend")[0] == "fake  ready  64  pretender\n"
    assert json.loads(dsctl(fake, "--json", "ls")[0])["data"][0]["id"] == "fake"


def test_an_output_that_cannot_be_written_is_a_failure(fake):
    fake.routes[CHAT] = ANSWER
    for args in (("ls",), ("--json", "ls"), ("run", "hi"), ("--json", "run", "hi"), ("--help",)):
        with open("/dev/full", "w", encoding="utf-8") as full:
            ran = subprocess.run([DSCTL, "--socket", fake.path, *args], stdin=subprocess.DEVNULL, stdout=full,
                                 stderr=subprocess.PIPE, text=True, timeout=60, env=environment())
        assert ran.returncode == 1 and "cannot write to the standard output" in ran.stderr, args


def model(**more):
    return {"name": "fake", "aliases": ["pretender"], "state": "ready", "reason": "", "progress": {"done": 0, "total": 0},
            "context": 64, "image_size": 3 << 20, "loads": 1, "engine_starts": 2, "kv_tokens": 64, "kv_tokens_used": 5,
            "running": 1, "waiting": 0, **more}


def status_of(*models):
    return Answer(200, {"version": "0.1.0", "pid": 7, "state": "running", "started_usec": 1, "default_model": "fake",
                        "requests": {"running": 1, "queued": 0}, "models": list(models)})


def test_status_shows_loads_and_engine_starts(fake):
    fake.routes[STATUS] = status_of(model(), model(name="bad", state="failed", reason="config.json: line 3"))
    out, _ = dsctl(fake, "status")
    rows = [line.split() for line in out.splitlines()]
    assert rows[-2] == ["fake", "ready", "3.0", "MiB", "-", "64", "5/64", "1", "0", "1", "2", "-"]
    assert rows[-1][:2] == ["bad", "failed"] and out.endswith("config.json: line 3\n")
    assert json.loads(dsctl(fake, "status", "--json")[0])["models"][1]["state"] == "failed"
    fake.routes[STATUS] = status_of(model(mapped_size=5 << 30))
    assert dsctl(fake, "status")[0].splitlines()[-1].split()[2:8] == ["3.0", "MiB", "5.0", "GiB", "64", "5/64"]


LOAD = ("POST", "/admin/v1/models/fake/load")


def test_load_waits_until_the_model_is_ready(fake):
    states = iter([model(state="loading", progress={"done": i, "total": 4}) for i in range(4)] + [model()] * 9)
    fake.routes[LOAD] = Answer(202, model(state="loading"))
    fake.routes[STATUS] = lambda body: status_of(next(states))
    _, talk = dsctl(fake, "load", "fake")
    assert talk == "fake is ready: 3.0 MiB in memory, context of 64 tokens\n"
    assert ("POST", LOAD[1], {"wait": False}) in fake.seen


def test_a_context_that_is_not_the_models_own_is_told(fake):
    short = model(context=24576, context_limit=131072, warning="context: something is odd")
    fake.routes[LOAD] = Answer(202, short)
    fake.routes[STATUS] = status_of(short)
    _, talk = dsctl(fake, "load", "fake")
    assert "context of 24576 of 131072 tokens\n" in talk
    assert talk.endswith("dsctl: warning: fake: context: something is odd\n")
    row = dsctl(fake, "status", "--no-legend")[0].splitlines()[-1]
    assert " 24576 of 131072 " in row and row.endswith("context: something is odd")


def test_a_nul_in_an_answer_is_passed_through(fake):
    fake.routes[CHAT] = Stream([chunk(content="a\0b"), chunk(finish="stop")])
    assert subprocess.run([DSCTL, "--socket", fake.path, "run", "hi"], capture_output=True, timeout=60, check=True,
                          env=environment()).stdout == b"a\0b\n"


def test_a_load_that_fails_tells_the_reason(fake):
    fake.routes[LOAD] = Answer(202, model(state="loading"))
    fake.routes[STATUS] = status_of(model(state="failed", reason="model.safetensors: the header is longer than the file"))
    _, talk = dsctl(fake, "load", "fake", code=1)
    assert talk == "dsctl: fake is failed: model.safetensors: the header is longer than the file\n"


def test_a_load_that_somebody_undoes_says_so(fake):
    fake.routes[("POST", "/admin/v1/models/m/load")] = Answer(202, {"name": "m", "state": "absent", "reason": ""})
    _, talk = dsctl(fake, "load", "m", code=1)
    assert talk == "dsctl: m was unloaded again while it was loading\n"


def test_load_draws_its_progress_on_a_terminal(fake):
    states = iter([model(state="loading", progress={"done": i << 20, "total": 4 << 20}) for i in range(5)] + [model()] * 9)
    fake.routes[LOAD] = Answer(202, model(state="loading"))
    fake.routes[STATUS] = lambda body: status_of(next(states))
    child = terminal(fake, "load", "fake")
    child.expect(pexpect.EOF)
    assert "50% of 4.0 MiB" in child.before
    assert "fake is ready" in child.before


def test_an_odd_name_is_escaped_in_the_path(fake):
    fake.routes["POST", "/admin/v1/models/a%2Fb%20c/unload"] = Answer(200, model(state="absent"))
    assert dsctl(fake, "unload", "a/b c")[1] == "a/b c is absent\n"


def test_plugins_shows_what_was_refused_and_why(fake):
    fake.routes["GET", "/admin/v1/plugins"] = Answer(200, {"plugins": [
        {"name": "greedy", "file": "/x/greedy.so", "kind": "sampler", "version": "1", "summary": "the likeliest",
         "state": "ok", "reason": "", "entries": [{"name": "pick", "summary": "takes one"}], "vectors": 3, "vectors_passed": 3,
         "options": [{"name": "heat", "type": "number", "default": 1.0, "min": 0, "max": 2, "help": "how wild"}]},
        {"name": "bad", "file": "/x/bad.so", "kind": "backend", "version": "1", "summary": "", "state": "refused",
         "reason": "matvec vector 3", "entries": [], "options": [], "vectors": 4, "vectors_passed": 2}]})
    rows = dsctl(fake, "plugins", "--no-legend")[0].splitlines()
    assert rows[0].split() == ["greedy", "1", "sampler", "/x/greedy.so", "ok", "3/3", "-"]
    assert rows[1].split()[4:6] == ["refused", "2/4"] and rows[1].endswith("matvec vector 3")
    detail = dsctl(fake, "plugins", "-v")[0]
    assert "option heat (number, default 1.0, from 0 to 2): how wild" in detail
    assert "provides pick: takes one" in detail


def test_config_check_runs_the_daemons_own_check(fake, tmp_path):
    program = tmp_path / "deepseekd"
    program.write_text('#!/bin/sh\necho "$@"\necho "x.yaml:3:1: bad" >&2\nexit 1\n')
    program.chmod(0o755)
    out, talk = dsctl(fake, "config", "check", "x.yaml", code=1, DEEPSEEKD_DAEMON=str(program))
    assert (out, talk) == ("--check-config --config x.yaml\n", "x.yaml:3:1: bad\n")
    out, _ = dsctl(fake, "config", "check", "--json", code=1, DEEPSEEKD_DAEMON=str(program))
    assert json.loads(out) == {"valid": False, "messages": ["--check-config", "x.yaml:3:1: bad"]}


def reference(folder, **more):
    """Three tokens, a vocabulary of four, two greedy tokens."""
    rows = [[0, 5, 1, 2], [9, 1, 2, 3], [0, 1, 7, 2]]
    (folder / "logits.bin").write_bytes(struct.pack("<12f", *sum(rows, [])))
    (folder / "expected.json").write_text(json.dumps(
        {"input_ids": [1, 2, 3], "logits": {"file": "logits.bin", "shape": [3, 4]}, "argmax": [1, 0, 2],
         "greedy": {"tokens": [2, 3], "top1_minus_top2": [5, 4]}, **more}))
    return rows + [[0, 1, 2, 6]]


def logits(rows):
    return Answer(200, struct.pack(f"<{len(rows) * 4}f", *sum(rows, [])), kind="application/octet-stream")


EVALUATE = ("POST", "/admin/v1/models/fake/evaluate")


def test_verify_asks_four_ways_and_holds_what_is_right(fake, tmp_path):
    fake.routes[EVALUATE] = logits(reference(tmp_path))
    out, _ = dsctl(fake, "verify", "fake", "--vectors", str(tmp_path))
    assert len(out.splitlines()) == 5 and out.count("holds") == 4
    sent = [body for _, path, body in fake.seen if path == EVALUATE[1]]
    assert [body["chunks"] for body in sent[:3]] == [[], [7, 41], [1]]
    assert sorted((body["chunks"], body["tokens"]) for body in sent[3:]) == [([], [1, 2, 3]), ([5], [3, 2, 1])]
    assert all(body["greedy"] == 2 and body["mtp"] is False for body in sent)


def test_verify_finds_what_is_wrong_and_says_how_much(fake, tmp_path):
    rows = reference(tmp_path)
    rows[1][2] += 0.25
    fake.routes[EVALUATE] = logits(rows)
    out, talk = dsctl(fake, "verify", "fake", "--json", "--vectors", str(tmp_path), code=8)
    result = json.loads(out)
    assert result["holds"] is False and len(result["ways"]) == 4
    assert result["ways"][0]["max_difference"] == 0.25
    assert result["ways"][0]["argmax"] == {"counted": 3, "agreed": 3, "near_ties": 0}
    assert talk == "dsctl: fake does not hold its vectors within 0.0005\n"
    dsctl(fake, "verify", "fake", "--tolerance", "0.3", "--vectors", str(tmp_path))


def test_verify_also_asks_for_the_prediction_block_where_there_are_vectors(fake, tmp_path):
    block = [[1, 2, 3, 9], [4, 9, 2, 1]]
    rows = reference(tmp_path, mtp={"logits": {"file": "mtp.bin", "shape": [2, 4]}})
    (tmp_path / "mtp.bin").write_bytes(struct.pack("<8f", *sum(block, [])))
    fake.routes[EVALUATE] = lambda body: logits(block if body["mtp"] else rows)
    out, _ = dsctl(fake, "verify", "fake", "--json", "--vectors", str(tmp_path))
    assert [way["block"] for way in json.loads(out)["ways"]] == ["main"] * 4 + ["mtp"] * 4


@pytest.mark.parametrize("n", [3, 5])
def test_verify_notices_that_it_is_another_model(fake, tmp_path, n):
    rows = reference(tmp_path)
    fake.routes[EVALUATE] = logits((rows + rows)[:n])
    _, talk = dsctl(fake, "verify", "fake", "--vectors", str(tmp_path), code=1)
    assert "is it the model of these vectors?" in talk


@pytest.mark.parametrize("text, why", [
    ("{", "expected.json:1:1"),
    ('{"input_ids": []}', "input_ids"),
    ('{"input_ids": [1], "logits": {"file": "../x", "shape": [1, 4]}}', "logits"),
    ('{"input_ids": [1], "logits": {"file": "logits.bin", "shape": [2, 4]}}', "its input_ids make 1 rows, not 2"),
    ('{"input_ids": [1], "logits": {"file": "logits.bin", "shape": [1, 4]}}', "more than the 4 floats"),
    ('{"input_ids": [1, 2, 3, 4], "logits": {"file": "logits.bin", "shape": [4, 4]}}', "fewer than the 16 floats"),
])
def test_vectors_that_contradict_themselves_are_refused(fake, tmp_path, text, why):
    reference(tmp_path)
    (tmp_path / "expected.json").write_text(text)
    _, talk = dsctl(fake, "verify", "fake", "--vectors", str(tmp_path), code=2)
    assert why in talk


def test_vectors_that_are_not_there_are_named(fake, tmp_path):
    _, talk = dsctl(fake, "verify", "fake", "--vectors", str(tmp_path / "none"), code=4)
    assert talk == f"dsctl: {tmp_path}/none/expected.json: No such file or directory\n"
    assert "--vectors DIR is missing" in dsctl(fake, "verify", "fake", code=2)[1]


@pytest.mark.parametrize("args, why", [
    ([], "a verb is missing"),
    (["stauts"], "did you mean dsctl status?"),
    (["status", "now"], "dsctl status: now is one word too many"),
    (["config"], "dsctl config check is what there is"),
    (["ps"], "did you mean dsctl status?"),
    (["stop", "fake"], "did you mean dsctl unload?"),
    (["load"], "something is missing"),
    (["load", "a", "b"], "b is one word too many"),
    (["run", "--tempertaure", "1", "x"], "did you mean --temperature?"),
    (["run", "-5"], "after -- words may begin with a dash"),
    (["chat", "--json"], "chat is for people"),
])
def test_a_mistake_on_the_command_line_is_explained(fake, args, why):
    assert why in dsctl(fake, *args, code=2)[1]


def test_help_lists_every_verb_and_every_option(fake):
    out, _ = dsctl(fake, "--help")
    verbs = ["run", "chat", "status", "ls", "load", "unload", "plugins", "verify", "inspect", "quantize", "tokenize",
             "render", "config check"]
    for verb in verbs:
        assert f"\n  {verb} " in out
        assert dsctl(fake, *verb.split(), "--help")[0].startswith(f"dsctl {verb}")
        assert dsctl(fake, "help", *verb.split())[0].startswith(f"dsctl {verb}")
    assert dsctl(fake, "--version")[0].startswith("dsctl ")


def terminal(fake, *args, **more):
    child = pexpect.spawn(DSCTL, ["--socket", fake.path, *args], env=environment(**more), timeout=30, encoding="utf-8")
    child.setwinsize(24, 200)
    return child


def test_reasoning_is_dimmed_on_a_terminal_unless_colour_is_unwanted(fake):
    fake.routes[CHAT] = ANSWER
    child = terminal(fake, "run", "x")
    child.expect(pexpect.EOF)
    assert "\x1b[2mThree and four.\x1b[0m\r\n\r\nIt is 7\r\n" in child.before
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        child = terminal(fake, "run", "x", **off)
        child.expect(pexpect.EOF)
        assert "\x1b" not in child.before and "Three and four.\r\n\r\nIt is 7\r\n" in child.before


def test_a_model_cannot_drive_the_terminal(fake):
    fake.routes[CHAT] = Stream([chunk(content="a\x1b[2Jb\x07\u009bc\n\tgrün"), chunk(finish="stop")])
    child = terminal(fake, "run", "x")
    child.expect(pexpect.EOF)
    assert "a?[2Jb??c\r\n" in child.before.replace("\t", "") and "grün" in child.before
    assert dsctl(fake, "run", "x")[0] == "a\x1b[2Jb\x07\u009bc\n\tgrün\n"


def slow(n):
    return Stream([chunk(content="word ")] + [lambda: time.sleep(0.05), chunk(content="word ")] * n)


def test_chat_keeps_the_conversation_and_forgets_it_when_told(fake):
    fake.routes[CHAT] = ANSWER
    child = terminal(fake, "chat", "fake")
    child.expect(">>> ")
    child.send("first\r")
    child.expect("It is 7")
    child.expect(">>> ")
    child.send("second\r")
    child.expect("It is 7")
    child.expect(">>> ")
    assert [m["content"] for m in asked(fake)["messages"]] == ["first", "It is 7", "second"]
    assert asked(fake)["model"] == "fake"
    child.send("/clear\r")
    child.expect("begins anew")
    child.expect(">>> ")
    child.send("third\r")
    child.expect("It is 7")
    child.expect(">>> ")
    assert [m["content"] for m in asked(fake)["messages"]] == ["third"]
    child.send("\x1b[A\r")  # the line before, out of the history
    child.expect("It is 7")
    child.expect(">>> ")
    assert asked(fake)["messages"][-1]["content"] == "third"
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_an_interrupt_in_chat_stops_the_answer_and_not_the_program(fake):
    fake.routes[CHAT] = slow(400)
    child = terminal(fake, "chat")
    child.expect(">>> ")
    child.send("talk\r")
    child.expect("word word ")
    child.sendintr()
    child.expect(r"\(stopped\)")
    child.expect(">>> ")
    assert fake.abandoned.wait(20)
    child.send("half a line")
    child.expect("half a line")
    child.sendintr()
    child.expect(">>> ")
    fake.routes[CHAT] = ANSWER
    child.send("on\r")
    child.expect("It is 7")
    child.expect(">>> ")
    said = asked(fake)["messages"]
    assert [m["content"] for m in said[::2]] == ["talk", "on"]
    assert said[1]["content"].startswith("word word")
    child.send("/exit\r")
    child.expect(pexpect.EOF)


def test_an_error_in_chat_takes_the_turn_back(fake):
    fake.routes[CHAT] = error(400, "too long")
    child = terminal(fake, "chat")
    child.expect(">>> ")
    child.send("much\r")
    child.expect("dsctl: too long")
    child.expect(">>> ")
    fake.routes[CHAT] = ANSWER
    child.send("less\r")
    child.expect("It is 7")
    assert [m["content"] for m in asked(fake)["messages"]] == ["less"]
    child.close()


def test_chat_takes_its_lines_from_a_pipe_too(fake):
    fake.routes[CHAT] = ANSWER
    out, _ = dsctl(fake, "chat", "--hide-thinking", stdin=b"one\n\ntwo")
    assert out == "It is 7\nIt is 7\n"
    fake.routes[CHAT] = error(404, "no such model")
    assert dsctl(fake, "chat", stdin=b"one\ntwo\n", code=4)[1] == "dsctl: no such model\n"

"""dsctl bench: the shape of what it tells, and what it refuses; never how fast anything is."""

import json
import os
import pathlib
import subprocess

import pytest

import engine_broker as broker
from deepseekd import DSCTL, PATIENCE, STAGE, Deepseekd, until
from engine_broker import FAILED, Helper
from test_dsctl_inspect import dsctl

TINY_R1 = STAGE / "share/deepseekd/models/tiny-r1"
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
BENCH, ANSWER = 22, 24
SHORT = ("-p", "24,300", "-d", "0,100", "-b", "3", "-n", "4", "-r", "2")
NAMES = ["pp24", "pp300", "tg4", "tg4@100", "tg4x3"]


def check(report):
    """What holds of every report of the bundled model."""
    cases = {case["name"]: case for case in report["cases"]}
    machine = report["machine"]
    assert machine["bytes_per_second"] > 0 and machine["operations_per_second"] > 0
    assert machine["unit"] in ("float32", "bf16", "int8")
    assert report["sampling"] > 0 and report["load_seconds"] > 0 and report["backend"].startswith("cpu")
    for case in cases.values():
        assert case["slowest"] <= case["tokens_per_second"] <= case["fastest"] and case["spread"] >= 0
        assert 0 < case["operations_share"] <= 1
        assert case["bandwidth_share"] is None  # all of the model lies in a cache
    return cases


def test_every_case_is_told_in_numbers():
    report = json.loads(dsctl("bench", TINY_R1, *SHORT, "--json")[0])
    cases = check(report)
    assert list(cases) == NAMES and report["left_out"] == []
    assert all(case["runs"] == 2 for case in cases.values())
    assert cases["pp300"]["tokens"] == 300 and cases["tg4x3"]["tokens"] == 12
    assert cases["pp24"]["bytes_per_token"] is None and cases["tg4x3"]["bytes_per_token"] is None
    # a row of the cache more a token, 100 of them
    model = json.loads(dsctl("inspect", TINY_R1, "--json")[0])
    row = model["memory"]["kv_per_token"] * model["layers"] // (model["layers"] + (model["mtp_parameters"] > 0))
    assert cases["tg4@100"]["bytes_per_token"] - cases["tg4"]["bytes_per_token"] == pytest.approx(100 * row)
    # the logits of a prompt are those of its last token
    whole = cases["tg4"]["operations_per_token"]
    assert cases["pp24"]["operations_per_token"] < whole == cases["tg4x3"]["operations_per_token"]
    assert whole == pytest.approx(2 * model["active_parameters"], rel=0.2)


def test_a_person_reads_a_table():
    out, talk = dsctl("bench", TINY_R1, *SHORT)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[-5:]] == NAMES
    assert lines[-6].split()[:4] == ["TEST", "RUNS", "TOKENS/S", "SPREAD"]
    assert "tiny-r1" in lines[0] and "bf16" in out
    bare, _ = dsctl("bench", TINY_R1, *SHORT, "--no-legend")
    assert [line.split()[0] for line in bare.splitlines()] == NAMES


def test_what_is_longer_than_the_context_is_left_out_with_a_line():
    out, talk = dsctl("bench", TINY_R1, "-p", "8,100000", "-d", "none", "-b", "none", "-r", "1")
    assert "pp8" in out and "pp100000" not in out
    assert "pp100000 is left out: the model's context is 1024 tokens" in talk
    _, talk = dsctl("bench", TINY_R1, "-p", "100000", "-d", "none", "-b", "none", code=1)
    assert "no measurement fits" in talk


@pytest.mark.parametrize("options", [("--precision", "exact"), ("--residency", "mapped"), ("--kv-type", "f16"),
                                     ("--threads", "1")])
def test_what_the_engine_may_be_told_is_told_it(options):
    report = json.loads(dsctl("bench", FIXTURES / "tiny-v3", "-p", "40", "-d", "3", "-b", "none", "-n", "2", "-r", "1",
                              "--json", *options)[0])
    assert [case["name"] for case in report["cases"]] == ["pp40", "tg2@3"]
    if options[0] == "--precision":
        assert report["machine"]["unit"] == "float32" and report["precision"] == "exact"
    if options[0] == "--residency":
        assert report["residency"] == "mapped"


def test_a_registered_model_is_found_by_name_and_by_alias():
    with Deepseekd({"name": "mine", "path": str(TINY_R1), "aliases": ["yours"]}) as daemon:
        for name in ("mine", "yours"):
            report = json.loads(daemon.dsctl("bench", name, "-p", "8", "-d", "none", "-b", "none", "-r", "1", "--json")[0])
            assert report["path"] == str(TINY_R1)
        _, talk = daemon.dsctl("bench", "nobodys", code=4)
        assert "nobodys" in talk
        assert daemon.get("/v1/models/mine")[1]["state"] == "absent"


@pytest.mark.parametrize("words, code, says", [
    (("/nonexistent/m.gguf",), 4, "/nonexistent/m.gguf"),
    (("nosuch",), 4, "no such file"),
    ((), 2, "something is missing"),
    ((TINY_R1, "more"), 2, "one word too many"),
    ((TINY_R1, "--prefill", "8,"), 2, "--prefill: 8, is not a list"),
    ((TINY_R1, "--prefill", "0"), 2, "--prefill"),
    ((TINY_R1, "--decode", "1,x"), 2, "--decode"),
    ((TINY_R1, "--batch", "257"), 2, "--batch"),
    ((TINY_R1, "-p", "none", "-d", "none", "-b", "none"), 2, "nothing is to be measured"),
    ((TINY_R1, "--tokens", "0"), 2, "--tokens"),
    ((TINY_R1, "--runs", "101"), 2, "--runs"),
    ((TINY_R1, "--threads", "0"), 2, "--threads"),
    ((TINY_R1, "--kv-type", "q3"), 2, "--kv-type"),
    ((TINY_R1, "--precision", "some"), 2, "--precision"),
    ((TINY_R1, "--residency", "here"), 2, "--residency"),
    ((TINY_R1, "--prefil", "8"), 2, "did you mean --prefill?"),
])
def test_a_mistake_has_its_exit_code_and_a_sentence(words, code, says):
    out, talk = dsctl("bench", *words, code=code)
    assert out == "" and says in talk
    assert len(talk.splitlines()) == 1


def test_a_broken_checkpoint_is_said_once(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"nothing of the kind")
    out, talk = dsctl("bench", path, code=1)
    assert out == "" and "m.gguf" in talk
    assert len([line for line in talk.splitlines() if "GGUF" in line]) == 1


def test_helpers_that_are_not_there_are_named(tmp_path):
    out, talk = dsctl("bench", TINY_R1, code=1, DEEPSEEKD_LIBEXEC_DIR=tmp_path)
    assert out == "" and str(tmp_path / "ds-loader") in talk


# -- what an engine is asked that does not make sense ------------------------------------------------------------------

@pytest.fixture(scope="module")
def image():
    fd, _ = broker.load(FIXTURES / "tiny-v3")
    yield fd
    os.close(fd)


def ask(image, bench, **options):
    engine = Helper("ds-engine")
    try:
        engine.send(BENCH, 0, {"precision": "exact", "kv_type": "f32", "context": 64, "parallel": 2, "bench": bench,
                               "plugins": {"backend-cpu": {"threads": 1}}, **options}, [image] if image else [])
        while True:
            message = engine.receive(PATIENCE)
            assert message, "the engine is gone: " + engine.process.stderr.read().decode()
            if message[0] in (ANSWER, FAILED):
                return message[0], json.loads(message[2])
    finally:
        engine.kill()


GOOD = {"prompt": 4}


@pytest.mark.parametrize("bench, says", [
    (None, "cases"),
    ({}, "cases"),
    ({"cases": []}, "cases"),
    ({"cases": [GOOD] * 65}, "65 cases"),
    ({"cases": "all"}, "cases"),
    ({"cases": [{}]}, "neither a prompt nor"),
    ({"cases": ["one"]}, "neither a prompt nor"),
    ({"cases": [{"prompt": 65}]}, "prompt"),
    ({"cases": [{"prompt": -1}]}, "prompt"),
    ({"cases": [{"prompt": "8"}]}, "prompt"),
    ({"cases": [{"depth": 60, "sequences": 1, "steps": 5}]}, "depth"),
    ({"cases": [{"depth": -1, "sequences": 1, "steps": 5}]}, "depth"),
    ({"cases": [{"depth": 9223372036854775807, "sequences": 1, "steps": 64}]}, "depth"),
    ({"cases": [{"depth": 0, "sequences": 3, "steps": 5}]}, "sequences"),
    ({"cases": [{"depth": 0, "sequences": 1}]}, "steps"),
    ({"cases": [GOOD], "runs": 101}, "runs"),
    ({"cases": [GOOD], "runs": 0}, "runs"),
])
def test_a_request_that_makes_no_sense_is_refused_with_its_word(image, bench, says):
    kind, answer = ask(image, bench)
    assert kind == FAILED and says in answer["message"]


def test_a_request_without_an_image_is_refused():
    kind, answer = ask(None, {"cases": [GOOD]})
    assert kind == FAILED and "image" in answer["message"]


def test_a_request_that_makes_sense_is_answered(image):
    kind, answer = ask(image, {"cases": [GOOD, {"depth": 62, "sequences": 2, "steps": 2}], "runs": 3})
    assert kind == ANSWER
    assert [len(case["seconds"]) for case in answer["cases"]] == [3, 3]
    assert [case["tokens"] for case in answer["cases"]] == [4, 4]
    assert len(answer["peaks"]) == 4


def test_an_interrupt_ends_all_of_it():
    process = subprocess.Popen([DSCTL, "bench", TINY_R1, "-p", "1000", "-d", "none", "-b", "none", "-r", "100"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def is_engine(pid):
        try:
            return b"ds-engine" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            return False  # a loader that has ended

    def engines():
        return [pid for pid in children.read_text().split() if is_engine(pid)]
    engine = until("an engine", engines)[0]
    process.terminate()
    out, talk = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and out == "" and "interrupted" in talk
    assert not os.path.exists(f"/proc/{engine}")

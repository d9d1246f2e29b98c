"""dsctl quantize: files that hold what they were made of, run in the daemon, and leave nothing behind when it goes wrong."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess

import pytest

from deepseekd import DSCTL, PATIENCE, STAGE, Deepseekd, until
from test_dsctl_inspect import dsctl

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
TINY_R1 = STAGE / "share/deepseekd/models/tiny-r1"
TYPES = ["q4_k_m", "q4_k_s", "q5_k_m", "q5_k_s", "q6_k", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_s", "q3_k_m",
         "q3_k_l", "iq4_nl", "iq4_xs", "f16", "bf16", "f32"]
SYNTH_MODEL = STAGE.parent / "tests/bench/synth-model"
QUESTION = "What is 347+285?"


def inspect(path):
    return json.loads(dsctl("inspect", "--json", path)[0])


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_written_and_read_again(tmp_path, kind):
    path = tmp_path / "m.gguf"
    told = json.loads(dsctl("quantize", "--json", TINY_R1, path, "--type", kind)[0])
    assert told["size"] == path.stat().st_size and told["type"] == kind
    source, made = inspect(TINY_R1), inspect(path)
    for key in ("architecture", "parameters", "active_parameters", "layers", "hidden", "context", "vocab", "tokens"):
        assert made[key] == source[key], key
    assert made["tokenizer"] == source["tokenizer"] == "bpe"
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_a_type_may_be_spelt_as_in_the_names_of_files(tmp_path):
    dsctl("quantize", TINY_R1, tmp_path / "m.gguf", "--type", "Q8_0")
    assert {kind["type"] for kind in inspect(tmp_path / "m.gguf")["types"]} == {"Q8_0", "F32"}


def test_a_file_has_the_modes_that_new_files_have(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    dsctl("quantize", TINY_R1, tmp_path / "m.gguf", "--type", "q8_0")
    assert (tmp_path / "m.gguf").stat().st_mode == plain.stat().st_mode


def test_a_quantised_file_can_be_quantised_again_to_the_same(tmp_path):
    """BF16 holds all that the checkpoint has, so the way over it changes nothing."""
    dsctl("quantize", TINY_R1, tmp_path / "tiny-r1.gguf", "--type", "bf16")
    dsctl("quantize", TINY_R1, tmp_path / "direct.gguf", "--type", "q4_k_m")
    dsctl("quantize", tmp_path / "tiny-r1.gguf", tmp_path / "over.gguf", "--type", "q4_k_m")
    direct, over = ((tmp_path / f"{name}.gguf").read_bytes() for name in ("direct", "over"))
    weights = sum(kind["size"] for kind in inspect(tmp_path / "direct.gguf")["types"])
    assert direct[-weights:] == over[-weights:]


def test_the_daemon_answers_from_quantised_files_and_the_floats_are_exact(tmp_path):
    vectors = FIXTURES / "tiny-v3"
    dsctl("quantize", TINY_R1, tmp_path / "r1.gguf", "--type", "q8_0")
    dsctl("quantize", vectors, tmp_path / "v3.gguf", "--type", "f32")
    models = [{"name": "small", "path": str(tmp_path / "r1.gguf"), "dialect": "deepseek-r1"},
              {"name": "floats", "path": str(tmp_path / "v3.gguf"), "precision": "exact", "kv_type": "f32"}]
    with Deepseekd(*models) as daemon:
        assert daemon.dsctl("run", "-m", "small", "-t", "0", QUESTION)[0] == "632\n"
        assert json.loads(daemon.dsctl("verify", "floats", "--vectors", str(vectors), "--json")[0])["holds"]


def test_a_synthetic_model_is_loaded_and_speaks(tmp_path):
    models = []
    for preset in ("tiny-qwen", "tiny-llama", "tiny-deepseek"):
        path = tmp_path / f"{preset}.gguf"
        subprocess.run([SYNTH_MODEL, preset, path, "q4_k_m"], check=True, timeout=PATIENCE)
        assert inspect(path)["vocab"] == 1024
        models.append({"name": preset, "path": str(path)})
    with Deepseekd(*models) as daemon:
        for model in models:
            status, answer = daemon.post("/v1/completions", {"model": model["name"], "prompt": "hello", "max_tokens": 5})
            assert status == 200 and answer["usage"]["completion_tokens"] > 0


def test_a_file_that_is_there_is_only_replaced_by_force(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_text("mine")
    _, talk = dsctl("quantize", TINY_R1, path, "--type", "q8_0", code=2)
    assert "--force" in talk and path.read_text() == "mine"
    dsctl("quantize", TINY_R1, path, "--type", "q8_0", "--force")
    assert path.read_bytes()[:4] == b"GGUF" and os.listdir(tmp_path) == ["m.gguf"]


@pytest.mark.parametrize("words, code, sentence", [
    ([TINY_R1, "m.gguf"], 2, "--type"),
    ([TINY_R1, "m.gguf", "--type", "q4_k"], 2, "q4_k_m"),
    (["nowhere", "m.gguf", "--type", "q8_0"], 4, "nowhere"),
    ([TINY_R1, "no/such/folder/m.gguf", "--type", "q8_0"], 4, "no/such/folder"),
    ([TINY_R1, ".", "--type", "q8_0", "--force"], 2, "not a regular file"),
    ([TINY_R1, "/dev/full", "--type", "q8_0", "--force"], 2, "/dev/full exists and is not a regular file"),
])
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    _, talk = dsctl("quantize", *words, code=code)
    assert sentence in talk and talk.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_what_is_not_a_number_is_refused_with_the_name_of_its_tensor(tmp_path):
    source = pathlib.Path(shutil.copytree(FIXTURES / "tiny-v3", tmp_path / "source"))
    weights = bytearray((source / "model.safetensors").read_bytes())
    size, = struct.unpack("<Q", weights[:8])
    tensor = json.loads(weights[8:8 + size])["model.layers.0.mlp.up_proj.weight"]
    at = 8 + size + tensor["data_offsets"][0]
    weights[at:at + 2] = b"\xc0\x7f"
    (source / "model.safetensors").write_bytes(weights)
    _, talk = dsctl("quantize", source, tmp_path / "m.gguf", "--type", "q4_0", code=1)
    assert "layers.0.ffn_up" in talk and "finite" in talk and not (tmp_path / "m.gguf").exists()


def test_a_disk_without_room_is_left_as_it_was(tmp_path):
    """The limit of a file's size stands in for a full disk."""
    folder = tmp_path / "full"
    folder.mkdir()
    done = subprocess.run([DSCTL, "quantize", str(TINY_R1), str(folder / "m.gguf"), "--type", "f32"], capture_output=True,
                          text=True, timeout=PATIENCE,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)))
    assert done.returncode == 1 and done.stderr.startswith("dsctl: ")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("end, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -9)])
def test_a_signal_in_the_middle_leaves_nothing(tmp_path, end, code):
    """The middle is wherever ds-loader is when it is stopped: it has not had its last word before that."""
    dsctl = subprocess.Popen([DSCTL, "quantize", str(TINY_R1), str(tmp_path / "m.gguf"), "--type", "q2_k"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    children = pathlib.Path(f"/proc/{dsctl.pid}/task/{dsctl.pid}/children")

    def is_loader(pid):
        return b"ds-loader" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    loader = int(until("ds-loader", lambda: [pid for pid in children.read_text().split() if is_loader(pid)])[0])
    os.kill(loader, signal.SIGSTOP)
    dsctl.send_signal(end)
    assert dsctl.wait(PATIENCE) == code and dsctl.stderr.read().count(b"\n") <= 1
    dsctl.stderr.close()
    until("ds-loader to be gone", lambda: not pathlib.Path(f"/proc/{loader}").exists())
    assert os.listdir(tmp_path) == []


def test_a_file_may_replace_its_source(tmp_path):
    path = tmp_path / "m.gguf"
    dsctl("quantize", TINY_R1, path, "--type", "f16")
    before = inspect(path)
    assert "--force" in dsctl("quantize", path, path, "--type", "q8_0", code=2)[1]
    dsctl("quantize", path, path, "--type", "q8_0", "--force")
    after = inspect(path)
    assert after["file_size"] < before["file_size"] and after["parameters"] == before["parameters"]


def test_a_synthetic_directory_is_quantised_and_speaks(tmp_path):
    """Llama's heads are stored in another order in GGUF: the same weights must compute the same in both."""
    subprocess.run([SYNTH_MODEL, "tiny-llama", tmp_path / "hf", "safetensors"], check=True, timeout=PATIENCE)
    dsctl("quantize", tmp_path / "hf", tmp_path / "m.gguf", "--type", "bf16")
    models = [{"name": name, "path": str(tmp_path / path), "precision": "exact", "kv_type": "f32"}
              for name, path in (("hf", "hf"), ("gguf", "m.gguf"))]
    request = {"tokens": list(range(40, 72)), "chunks": [], "greedy": 4, "mtp": False}
    with Deepseekd(*models) as daemon:
        logits = {}
        for name in ("hf", "gguf"):
            daemon.load(name)
            status, logits[name] = daemon.post(f"/admin/v1/models/{name}/evaluate", request)
            assert status == 200
        ours, theirs = (struct.unpack(f"<{len(l) // 4}f", l) for l in (logits["hf"], logits["gguf"]))
        assert len(ours) == 35 * 1024 and max(abs(a - b) for a, b in zip(ours, theirs)) < 1e-4

"""Models whose weights stay in their files: the same answers, and what happens when somebody changes a file."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from deepseekd import SEES_INSIDE, Deepseekd, bundled, until

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
QUESTION = "What is 347+285?"
MEMORY = pathlib.Path("/sys/fs/cgroup/memory")  # of control groups, version 1


def copy(daemon, source, name, **more):
    """A copy of the checkpoint @source, known to the daemon as @name once it reloads."""
    path = daemon.folder / name
    shutil.copytree(source, path)
    daemon.write_model({"name": name, "path": str(path), **more})
    return path


def mapped_by_engine(daemon, name):
    """The names of the checkpoint's files in the engine's memory map."""
    maps = pathlib.Path(f"/proc/{daemon.model(name)['engine_pid']}/maps").read_text()
    return set(re.findall(r"[\w.-]+\.(?:safetensors|gguf)", maps))


def evaluate(daemon, name, tokens):
    status, logits = daemon.post(f"/admin/v1/models/{name}/evaluate", {"tokens": tokens})
    assert status == 200, logits
    return logits


@pytest.fixture
def mine():
    """A daemon with a copy of the bundled model, mapped, and the bundled model itself."""
    with Deepseekd("tiny-r1") as daemon:
        daemon.path = copy(daemon, bundled("tiny-r1")["path"], "mine", residency="mapped")
        daemon.reload()
        until("the copy", lambda: len(daemon.status()["models"]) == 2)
        assert daemon.load("mine")["state"] == "ready"
        yield daemon


@pytest.mark.parametrize("fixture", ["tiny-v3", "v2-lite", "v3-mtp", "v3-odd"])
def test_a_mapped_model_computes_what_a_resident_one_does(fixture):
    models = [{"name": residency, "path": str(FIXTURES / fixture), "precision": "exact", "residency": residency}
              for residency in ("resident", "mapped")]
    tokens = json.loads((FIXTURES / fixture / "expected.json").read_text())["input_ids"]
    with Deepseekd(*models) as daemon:
        resident, mapped = daemon.load("resident"), daemon.load("mapped")
        shards = {path.name for path in (FIXTURES / fixture).glob("*.safetensors")}
        if SEES_INSIDE:
            assert mapped_by_engine(daemon, "mapped") == shards
            assert mapped_by_engine(daemon, "resident") == set()
        assert resident["mapped_size"] == 0
        assert mapped["mapped_size"] > mapped["image_size"] and mapped["image_size"] < resident["image_size"]
        daemon.dsctl("verify", "mapped", "--vectors", str(FIXTURES / fixture))
        assert evaluate(daemon, "mapped", tokens) == evaluate(daemon, "resident", tokens)


@pytest.mark.parametrize("options", [["--type", "bf16"], ["--type", "q8_0"], ["--type", "q8_0", "--split", "3"]], ids=str)
def test_a_mapped_gguf_computes_what_a_resident_one_does(tmp_path, options):
    subprocess.run([sys.executable, str(FIXTURES.parent / "gguf_writer.py"), str(FIXTURES / "tiny-v3"), str(tmp_path / "m.gguf"),
                    *options], check=True)
    files = sorted(tmp_path.glob("*.gguf"))
    models = [{"name": residency, "path": str(files[0]), "precision": "exact", "residency": residency}
              for residency in ("resident", "mapped")]
    tokens = json.loads((FIXTURES / "tiny-v3/expected.json").read_text())["input_ids"]
    with Deepseekd(*models) as daemon:
        daemon.load("resident")
        mapped = daemon.load("mapped")
        assert mapped["mapped_size"] > mapped["image_size"]
        assert not SEES_INSIDE or set() < mapped_by_engine(daemon, "mapped") <= {file.name for file in files}
        assert "mapped" in daemon.dsctl("load", "mapped")[1]
        assert evaluate(daemon, "mapped", tokens) == evaluate(daemon, "resident", tokens)


def test_an_engine_that_dies_maps_the_files_again(mine):
    answer = mine.ask(QUESTION, model="mine")["choices"][0]["message"]
    os.kill(mine.model("mine")["engine_pid"], signal.SIGKILL)
    until("another engine", lambda: mine.model("mine")["engine_starts"] == 2)
    assert mine.ask(QUESTION, model="mine")["choices"][0]["message"] == answer
    model = mine.model("mine")
    assert model["loads"] == 1 and model["engine_starts"] == 2


def fails_alone(daemon, sentence):
    """The mapped model fails with @sentence and is not started again; its neighbour does not notice."""
    until("its failure", lambda: daemon.model("mine")["state"] == "failed")
    model = daemon.model("mine")
    assert model["reason"] == sentence and model["engine_pid"] == 0
    starts = model["engine_starts"]
    assert daemon.ask(QUESTION, model="tiny-r1")["choices"][0]["message"]["content"].strip() == "632"
    model = daemon.model("mine")
    assert model["state"] == "failed" and model["engine_starts"] == starts


def test_a_file_that_is_cut_while_it_is_mapped_fails_its_model_only(mine):
    mine.load("tiny-r1")
    os.truncate(mine.path / "model.safetensors", 4096)
    status, answer = mine.post("/v1/chat/completions", {"model": "mine", "messages": [{"role": "user", "content": "Hi"}]})
    assert status >= 500, answer
    fails_alone(mine, "model.safetensors changed")


def test_a_file_that_is_replaced_is_noticed_when_the_engine_starts_again(mine):
    file = mine.path / "model.safetensors"
    shutil.copy(file, mine.path / "other")
    os.replace(mine.path / "other", file)
    os.kill(mine.model("mine")["engine_pid"], signal.SIGKILL)
    fails_alone(mine, "model.safetensors changed")


def test_a_file_that_is_gone_is_noticed_when_the_engine_starts_again(mine):
    (mine.path / "model.safetensors").unlink()
    os.kill(mine.model("mine")["engine_pid"], signal.SIGKILL)
    fails_alone(mine, "model.safetensors changed")


def test_a_model_that_failed_is_loaded_from_the_new_file(mine):
    file = mine.path / "model.safetensors"
    file.write_bytes(file.read_bytes())
    os.kill(mine.model("mine")["engine_pid"], signal.SIGKILL)
    fails_alone(mine, "model.safetensors changed")
    assert mine.load("mine")["state"] == "ready"
    assert mine.ask(QUESTION, model="mine")["choices"][0]["message"]["content"].strip() == "632"


def large_model(path, n_experts=128, moe_ff=4096):
    """v2-lite with experts of 300 MB, drawn at random."""
    config = json.loads((FIXTURES / "v2-lite/config.json").read_text())
    hidden, layers = config["hidden_size"], range(config["first_k_dense_replace"], config["num_hidden_layers"])
    config.update(n_routed_experts=n_experts, moe_intermediate_size=moe_ff)
    raw = (FIXTURES / "v2-lite/model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    old = json.loads(raw[8:8 + size])
    random = np.random.default_rng(7)
    tensors = {name: raw[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]] for name, t in old.items()
               if name != "__metadata__"}
    shapes = {name: old[name]["shape"] for name in tensors}

    def draw(name, rows, cols):
        floats = random.standard_normal(rows * cols, dtype=np.float32) * np.float32(0.05)
        tensors[name] = (floats.view(np.uint32) >> 16).astype("<u2").tobytes()
        shapes[name] = [rows, cols]

    for layer in layers:
        draw(f"model.layers.{layer}.mlp.gate.weight", n_experts, hidden)
        width = config["n_shared_experts"] * moe_ff
        for part, n in [("shared_experts", width)] + [(f"experts.{e}", moe_ff) for e in range(n_experts)]:
            draw(f"model.layers.{layer}.mlp.{part}.gate_proj.weight", n, hidden)
            draw(f"model.layers.{layer}.mlp.{part}.up_proj.weight", n, hidden)
            draw(f"model.layers.{layer}.mlp.{part}.down_proj.weight", hidden, n)
    header, offset = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    with open(path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(tensors.values())
        file.flush()
        os.fsync(file.fileno())
        # Pages that this process read would be charged to it, and not to the engine.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.skipif(not os.access(MEMORY / "cgroup.procs", os.W_OK) or os.geteuid() != 0,
                    reason="no memory control group can be made here")
def test_a_model_larger_than_memory_answers(tmp_path):
    limit, group = 128 << 20, MEMORY / f"deepseekd-test-{os.getpid()}"
    path = tmp_path / "large"
    large_model(path)
    assert (path / "model.safetensors").stat().st_size > 2 * limit
    model = {"path": str(path), "precision": "exact", "context": 512, "parallel": 1}
    tokens = json.loads((FIXTURES / "v2-lite/expected.json").read_text())["input_ids"]
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        with Deepseekd({**model, "name": "mapped", "residency": "mapped"}) as daemon:
            (group / "cgroup.procs").write_text(str(daemon.process.pid))
            daemon.load("mapped")
            answer = evaluate(daemon, "mapped", tokens)
            assert int((group / "memory.max_usage_in_bytes").read_text()) > limit * 9 // 10
    finally:
        until("the group to be empty", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    with Deepseekd({**model, "name": "resident"}) as daemon:
        assert evaluate(daemon, "resident", tokens) == answer

"""dsctl inspect: what a checkpoint is, without a daemon; and what is said of one that is broken."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from deepseekd import DSCTL, PATIENCE, STAGE

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
TINY = FIXTURES / "tiny-v3"


def dsctl(*words, code=0, **environment):
    """Output and talk of dsctl, which nobody listens to."""
    done = subprocess.run([DSCTL, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL,
                          env={**os.environ, "DEEPSEEKD_SOCKET": "/nonexistent/api.sock", **environment})
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def spoiled(tmp_path):
    """A copy of the fixture for a test to break."""
    return pathlib.Path(shutil.copytree(TINY, tmp_path / "tiny"))


def test_a_checkpoint_is_described_in_numbers():
    model = json.loads(dsctl("inspect", "--json", TINY)[0])
    config = json.loads((TINY / "config.json").read_text())
    assert model["architecture"] == "deepseek" and model["family"] == "deepseek2" and model["name"] == "tiny-v3"
    assert model["layers"] == config["num_hidden_layers"] and model["hidden"] == config["hidden_size"]
    assert model["vocab"] == config["vocab_size"] and model["tokenizer"] is None and model["dialect"] is None
    moe = config["num_hidden_layers"] - config["first_k_dense_replace"]
    idle = config["n_routed_experts"] - config["num_experts_per_tok"]
    expert = 3 * config["moe_intermediate_size"] * config["hidden_size"]
    assert model["parameters"] - model["active_parameters"] == moe * idle * expert
    stored = sum(kind["parameters"] for kind in model["types"])
    assert stored == model["parameters"] + model["mtp_parameters"]
    assert [kind["type"] for kind in model["types"]] == ["BF16", "F32"]
    assert model["types"][0]["size"] == 2 * model["types"][0]["parameters"]
    memory = model["memory"]
    row = config["kv_lora_rank"] + config["qk_rope_head_dim"]
    assert memory["kv_per_token"] == 2 * row * config["num_hidden_layers"]
    assert memory["context"] == min(8192, model["context"])
    assert memory["kv"] == memory["kv_per_token"] * memory["context"]
    assert memory["total"] == memory["weights"] + memory["kv"] + memory["scratch"]


def test_a_person_reads_the_same_in_words():
    out, talk = dsctl("inspect", STAGE / "share/deepseekd/models/tiny-r1")
    assert "deepseek-r1" in out and "active per token" in out and "multi-token prediction" in out
    assert "memory: together" in out and talk == ""


def test_what_is_not_there_is_exit_code_4(tmp_path):
    assert "nowhere" in dsctl("inspect", tmp_path / "nowhere", code=4)[1]
    assert "no *.safetensors" in dsctl("inspect", tmp_path, code=4)[1]
    assert "inspect takes the path" in dsctl("inspect", "tiny-r1", code=4)[1]


def test_a_family_has_the_name_that_people_know_it_by():
    families = {"tiny-llama3": "llama", "tiny-qwen2": "qwen2", "qwen3": "qwen3", "v2-lite": "deepseek2"}
    for name, family in families.items():
        assert dsctl("inspect", FIXTURES / name)[0].splitlines()[1].split()[1] == family + ","


def test_of_several_gguf_files_in_a_directory_one_must_be_named(tmp_path):
    for name in ("config.json", "b.gguf", "a.gguf"):
        (tmp_path / name).write_text("{}")
    talk = dsctl("inspect", tmp_path, code=2)[1]
    assert "a.gguf" in talk and "b.gguf" in talk and talk.count("\n") == 1


@pytest.mark.parametrize("name, content, sentence", [
    ("config.json", "{", "config.json"),
    ("model.safetensors", "", "model.safetensors"),
])
def test_a_broken_file_is_named_in_one_line(spoiled, name, content, sentence):
    (spoiled / name).write_text(content)
    out, talk = dsctl("inspect", spoiled, code=1)
    assert out == "" and sentence in talk and talk.startswith("dsctl: ") and talk.count("\n") == 1


def test_a_file_of_no_known_format_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "no format recognizes" in dsctl("inspect", tmp_path / "notes.txt", code=1)[1]


def test_plugins_that_others_could_have_written_are_not_used(tmp_path):
    """The caller's own rights are at stake: the rule of the daemon holds for dsctl too."""
    plugins = pathlib.Path(shutil.copytree(STAGE / "lib/deepseekd/plugins", tmp_path / "plugins"))
    plugins.chmod(0o777)
    talk = dsctl("inspect", TINY, code=1, DEEPSEEKD_PLUGIN_DIR=str(plugins))[1]
    assert "writable by group or others" in talk


def test_an_installation_that_is_not_whole_says_what_is_missing(tmp_path):
    assert "ds-loader" in dsctl("inspect", TINY, code=1, DEEPSEEKD_LIBEXEC_DIR=str(tmp_path))[1]
    assert "no plugins" in dsctl("inspect", TINY, code=1, DEEPSEEKD_PLUGIN_DIR=str(tmp_path))[1]

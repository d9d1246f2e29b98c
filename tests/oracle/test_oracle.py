"""The reference must give what other code gave (tiny-*); the fixtures made with it must be what it gives."""

import json
import pathlib

import numpy as np
import pytest

from reference import Model

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
NAMES = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))


@pytest.fixture(scope="module", params=NAMES)
def run(request):
    """A fixture's folder, what it expects, its model, and the model's answer to its input."""
    folder = FIXTURES / request.param
    expected = json.loads((folder / "expected.json").read_text())
    model = Model(folder)
    return folder, expected, model, model.forward(expected["input_ids"])


def floats(folder, entry):
    return np.fromfile(folder / entry["file"], "<f4").reshape(entry["shape"])


def test_there_are_fixtures():
    assert {"tiny-v3", "tiny-v3-fp8", "tiny-llama3", "tiny-qwen2"} <= set(NAMES)


def test_logits_agree(run):
    folder, expected, _, (logits, _, _) = run
    assert np.abs(logits - floats(folder, expected["logits"])).max() < 1e-4
    assert logits.argmax(axis=-1).tolist() == expected["argmax"]


def test_the_residual_stream_agrees(run):
    folder, expected, _, (_, last, _) = run
    assert np.abs(last - floats(folder, expected["resid_last"])).max() < 1e-4


def test_the_same_experts_are_chosen(run):
    _, expected, model, _ = run
    for layer, chosen in expected.get("experts", {}).items():
        assert model.experts[int(layer)] == chosen


def test_greedy_tokens_agree(run):
    _, expected, model, _ = run
    tokens, gaps = model.greedy(expected["input_ids"], expected["greedy"]["n"])
    assert tokens == expected["greedy"]["tokens"]
    assert np.abs(np.array(gaps) - expected["greedy"]["top1_minus_top2"]).max() < 1e-4


def test_multi_token_prediction_agrees(run):
    folder, expected, model, (_, _, hidden) = run
    if "mtp" not in expected:
        return
    logits = model.mtp(np.array(expected["input_ids"]), hidden)
    assert np.abs(logits - floats(folder, expected["mtp"]["logits"])).max() < 1e-4
    assert logits.argmax(axis=-1).tolist() == expected["mtp"]["argmax"]


def test_no_choice_is_so_narrow_that_float32_could_make_another(run):
    _, expected, model, _ = run
    assert model.margins.routing > 5e-4
    assert min(expected["greedy"]["top1_minus_top2"]) > 0.02

"""ds-engine on its own: these tests play the broker. What the numbers should be comes from the oracle's fixtures."""
import array
import json
import os
import pathlib
import signal
import struct
import time

import pytest

import engine_broker as broker
from engine_broker import (CANCEL, CONTENT, EVALUATE, EVENTS, GENERATE, LOGITS, LOGPROBS, MAP, PING, QUIT, REASONING,
                           STARTED, Engine, Failed, Helper, load)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures"
NAMES = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))
TINY_V3 = FIXTURES / "tiny-v3"
TINY_R1 = ROOT / "models/tiny-r1/checkpoint"
TOLERANCE = 5e-4
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def v3_image():
    fd, _ = load(TINY_V3)
    yield fd
    os.close(fd)


@pytest.fixture(scope="module")
def r1_image():
    fd, _ = load(TINY_R1)
    yield fd
    os.close(fd)


@pytest.fixture
def start():
    """Starts engines and kills what a failed test leaves."""
    engines = []

    def start_one(image, **options):
        engines.append(Engine(image, **options))
        return engines[-1]
    yield start_one
    for engine in engines:
        engine.kill()


@pytest.fixture
def v3(start, v3_image):
    return start(v3_image)


@pytest.fixture
def r1(start, r1_image):
    return start(r1_image)


def finish(engine):
    status, errors = engine.quit()
    assert status == 0, errors
    assert "Sanitizer" not in errors


def say(text):
    return [{"role": "user", "content": text}]


def floats(folder, entry):
    values = array.array("f")
    values.frombytes((folder / entry["file"]).read_bytes())
    return values


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


class Oracle:
    def __init__(self, folder):
        self.expected = json.loads((folder / "expected.json").read_text())
        self.ids = self.expected["input_ids"]
        self.rows, self.vocab = self.expected["logits"]["shape"]
        self.logits = floats(folder, self.expected["logits"])
        self.greedy = self.expected["greedy"]["tokens"]
        self.gaps = self.expected["greedy"]["top1_minus_top2"]

    def check(self, request):
        """All logits of the prompt, and the greedy tokens up to the first that was too close to call."""
        assert request.failure is None
        got = request.logits
        assert len(got) == (self.rows + len(self.greedy) - 1) * self.vocab
        assert distance(got, self.logits) <= TOLERANCE
        for i, (want, gap) in enumerate(zip(self.greedy, self.gaps)):
            if gap < 2 * TOLERANCE:
                break
            row = got[(self.rows - 1 + i) * self.vocab:(self.rows + i) * self.vocab]
            assert row.index(max(row)) == want


# The numbers

@pytest.fixture(scope="module", params=NAMES)
def fixture(request):
    """The oracle of a fixture, its folder and its image."""
    folder = FIXTURES / request.param
    fd, _ = load(folder)
    yield Oracle(folder), folder, fd
    os.close(fd)


def test_there_are_fixtures():
    assert "tiny-v3" in NAMES and len(NAMES) >= 6


@pytest.mark.parametrize("chunks", [[], [48], [7, 41], [1], [16, 1, 31]], ids=str)
def test_logits_are_the_oracles_however_the_prompt_is_cut(start, fixture, chunks):
    oracle, _, image = fixture
    engine = start(image)
    oracle.check(engine.evaluate(tokens=oracle.ids, chunks=chunks, greedy=len(oracle.greedy)))
    finish(engine)


def test_logits_are_the_oracles_beside_other_sequences(start, fixture):
    oracle, _, image = fixture
    engine = start(image)
    others = [engine.begin(EVALUATE, {"tokens": [i * 7 % oracle.vocab for i in range(n)], "greedy": 60})
              for n in (180, 33)]
    mine = [engine.begin(EVALUATE, {"tokens": oracle.ids, "chunks": c, "greedy": len(oracle.greedy)})
            for c in ([7, 41], [1])]
    for request in engine.wait(*mine):
        oracle.check(request)
    engine.wait(*others)
    finish(engine)


def test_multi_token_prediction_is_the_oracles(start, fixture):
    oracle, folder, image = fixture
    engine = start(image)
    if "mtp" not in oracle.expected:
        assert engine.evaluate(tokens=oracle.ids, mtp=True).failure["param"] == "mtp"
        finish(engine)
        return
    want = floats(folder, oracle.expected["mtp"]["logits"])
    numbers = [engine.begin(EVALUATE, {"tokens": oracle.ids, "mtp": True, "chunks": c}) for c in ([], [1], [7, 41])]
    for request in engine.wait(*numbers):
        assert len(request.logits) == len(want) == (oracle.rows - 1) * oracle.vocab
        assert distance(request.logits, want) <= TOLERANCE
    finish(engine)


@pytest.mark.parametrize("kv_type", ["f16", "bf16"])
def test_a_16_bit_cache_stays_close(start, kv_type):
    oracle = Oracle(TINY_V3)
    fd, _ = load(TINY_V3, precision="fast", kv_type=kv_type)
    engine = start(fd, precision="fast", kv_type=kv_type)
    request = engine.evaluate(tokens=oracle.ids)
    rows = [slice(r * oracle.vocab, (r + 1) * oracle.vocab) for r in range(oracle.rows)]
    distances = sorted(distance(request.logits[row], oracle.logits[row]) for row in rows)
    assert distances[oracle.rows * 9 // 10] < 0.5  # rounding may choose another expert, for a row here and there
    os.close(fd)
    finish(engine)


def test_mtp_gives_one_row_less_and_the_same_however_it_is_cut(r1):
    tokens = [3 + i % 700 for i in range(60)]
    whole = r1.evaluate(tokens=tokens, mtp=True)
    assert whole.failure is None and len(whole.logits) == 59 * 768
    numbers = [r1.begin(EVALUATE, {"tokens": tokens, "mtp": True, "chunks": c}) for c in ([1], [7, 13])]
    for request in r1.wait(*numbers):
        assert distance(request.logits, whole.logits) < TOLERANCE
    assert r1.evaluate(tokens=[5], mtp=True).done["finish"] == "length"
    finish(r1)


# Answers

def test_reasoning_and_answer_come_apart(r1):
    request = r1.generate(messages=say("What is 12 + 30?"), max_tokens=200, sampling=GREEDY)
    assert request.text(CONTENT).strip() == "42"
    assert "12" in request.text(REASONING)
    assert request.done["finish"] == "stop"
    assert 0 < request.done["reasoning"] < request.done["completion"]
    assert request.events[0][0] == STARTED
    finish(r1)


def test_a_seed_gives_the_same_answer_again(r1):
    asked = dict(prompt="The", max_tokens=40, sampling={"temperature": 1.5, "seed": 11})
    first, second = r1.generate(**asked), r1.generate(**asked)
    assert first.text() == second.text() != ""
    asked["sampling"] = {"temperature": 1.5, "seed": 12}
    assert r1.generate(**asked).text() != first.text()
    finish(r1)


def test_the_models_sampling_is_used_unless_the_request_says_otherwise(start, r1_image):
    engine = start(r1_image, sampling={"temperature": 0})
    texts = {engine.generate(prompt="The", max_tokens=20).text() for _ in range(3)}
    assert len(texts) == 1
    finish(engine)


def test_a_stop_string_ends_the_answer_and_is_not_shown(r1):
    whole = r1.generate(prompt="Hello", max_tokens=30, sampling=GREEDY).text()
    cut = whole[5:8]
    request = r1.generate(prompt="Hello", max_tokens=30, sampling=GREEDY, stop=["\x01", cut])
    assert request.text() == whole[:whole.index(cut)]
    assert request.done["finish"] == "stop"
    finish(r1)


def test_max_tokens_ends_the_answer(r1):
    request = r1.generate(prompt="Hello", max_tokens=3, sampling=GREEDY)
    assert (request.done["completion"], request.done["finish"]) == (3, "length")
    finish(r1)


def test_an_answer_ends_with_the_context(start, r1_image):
    engine = start(r1_image, context=32)
    request = engine.generate(prompt="Hello", max_tokens=1000, sampling={"temperature": 2, "seed": 1})
    assert request.done["finish"] in ("length", "stop")
    assert request.done["prompt"] + request.done["completion"] <= 32
    finish(engine)


def test_echo_shows_the_prompt_and_logprobs_list_every_token(r1):
    plain = r1.generate(prompt="Hello world", max_tokens=4, sampling=GREEDY)
    echo = r1.generate(prompt="Hello world", max_tokens=4, sampling=GREEDY, echo=True)
    assert echo.text() == "Hello world" + plain.text()
    listed = r1.generate(prompt="Hello world", max_tokens=4, sampling=GREEDY, echo=True, logprobs=3)
    assert listed.text() == echo.text()
    tokens = listed.logprobs
    assert len(tokens) == listed.done["prompt"] + listed.done["completion"]
    assert tokens[0]["logprob"] is None and all(t["logprob"] <= 0 for t in tokens[1:])
    assert "".join(t["token"] for t in tokens) == listed.text()
    assert all(len(t["top"]) == 3 for t in tokens[1:])
    # Greedy: what was chosen is the best of the alternatives.
    assert all(t["id"] == t["top"][0]["id"] for t in tokens[-4:])
    only = r1.generate(prompt="Hello world", max_tokens=0, echo=True, logprobs=0)
    assert only.text() == "Hello world" and only.done["completion"] == 0
    finish(r1)


def test_logprobs_come_right_before_their_text(r1):
    request = r1.generate(messages=say("What is 2 + 3?"), max_tokens=60, sampling=GREEDY, logprobs=0)
    kinds = [kind for kind, _ in request.events[1:-1]]
    for listed, text in zip(kinds, kinds[1:]):
        assert listed != LOGPROBS or text in broker.TEXTS
    finish(r1)


def test_an_owner_finds_its_prefix_again_and_nobody_elses(r1):
    prompt = [5 + i % 600 for i in range(100)]
    first = r1.generate(prompt=prompt, max_tokens=2, sampling=GREEDY, owner="ann")
    again = r1.generate(prompt=prompt, max_tokens=2, sampling=GREEDY, owner="ann")
    other = r1.generate(prompt=prompt, max_tokens=2, sampling=GREEDY, owner="bob")
    assert (first.started["cached"], again.started["cached"], other.started["cached"]) == (0, 96, 0)
    assert first.text() == again.text() == other.text()
    finish(r1)


# Requests that cannot be served

@pytest.mark.parametrize("body, code, param", [
    ({"messages": []}, "invalid_request", "messages"),
    ({"messages": [{"role": "king", "content": ""}]}, "invalid_request", "messages[0].role"),
    ({"prompt": 5}, "invalid_request", "prompt"),
    ({"prompt": ""}, "invalid_request", "prompt"),
    ({"prompt": [768]}, "invalid_request", "prompt"),
    ({"prompt": "a", "messages": say("b")}, "invalid_request", "prompt"),
    ({"prompt": "a", "max_tokens": 0}, "invalid_request", "max_tokens"),
    ({"prompt": "a", "max_tokens": -1}, "invalid_request", "max_tokens"),
    ({"prompt": "a", "max_tokens": "many"}, "invalid_request", "max_tokens"),
    ({"prompt": "a", "stop": [""]}, "invalid_request", "stop"),
    ({"prompt": "a", "stop": ["x"] * 17}, "invalid_request", "stop"),
    ({"prompt": "a", "logprobs": 21}, "invalid_request", "logprobs"),
    ({"prompt": "a", "sampling": {"temperature": 3}}, "invalid_request", "temperature"),
    ({"prompt": "a", "sampling": {"temperature": "hot"}}, "invalid_request", "temperature"),
    ({"prompt": "a", "sampling": {"top_k": 1.5}}, "invalid_request", "top_k"),
    ({"prompt": "a", "sampling": {"tempreature": 1}}, "invalid_request", "tempreature"),
    ({"prompt": "a", "sampling": {"seed": "x"}}, "invalid_request", "seed"),
])
def test_what_is_wrong_with_a_request_is_named(r1, body, code, param):
    request = r1.generate(**body)
    assert (request.failure["code"], request.failure.get("param")) == (code, param)
    assert request.failure["message"]
    assert r1.generate(prompt="a", max_tokens=1).done
    finish(r1)


@pytest.mark.parametrize("body, param", [
    ({"tokens": []}, "tokens"), ({"tokens": [1, 512]}, "tokens"), ({"tokens": "text"}, "tokens"),
    ({"tokens": [1], "chunks": [0]}, "chunks"), ({"tokens": [1], "chunks": 3}, "chunks"),
    ({"tokens": [1], "greedy": -1}, "greedy"), ({"tokens": [1], "mtp": True}, "mtp"),
])
def test_what_is_wrong_with_an_evaluation_is_named(v3, body, param):
    failure = v3.evaluate(**body).failure
    assert (failure["code"], failure["param"]) == ("invalid_request", param)
    finish(v3)


def test_a_prompt_longer_than_the_context_gets_both_numbers(start, r1_image):
    engine = start(r1_image, context=64)
    for body in ({"prompt": list(range(3, 67))}, {"prompt": "word " * 1000}):
        failure = engine.generate(**body).failure
        assert failure["code"] == "context_length_exceeded" and failure["n_ctx"] == 64
        assert failure["n_prompt_tokens"] >= 64
        assert "exceeds the available context size" in failure["message"]
    assert engine.evaluate(tokens=[1] * 60, greedy=10).failure["code"] == "context_length_exceeded"
    finish(engine)


def test_a_model_without_tokenizer_takes_ids_only(v3):
    assert v3.generate(prompt="text").failure["code"] == "model_has_no_tokenizer"
    assert v3.generate(messages=say("text")).failure["code"] == "model_has_no_tokenizer"
    request = v3.generate(prompt=[1, 2, 3], max_tokens=4, logprobs=0, sampling=GREEDY)
    assert request.done["completion"] == 4 and len(request.logprobs) == 4
    finish(v3)


def test_text_that_is_not_json_is_a_bad_request(r1):
    number = r1.begin(GENERATE, b"{")
    assert r1.wait(number)[0].failure["code"] == "invalid_request"
    finish(r1)


# Flow

def test_without_credit_a_request_pauses_and_nobody_else_waits(start, v3_image):
    engine = start(v3_image, parallel=1)
    engine.generous = False
    tokens = [i % 512 for i in range(400)]
    slow = engine.begin(EVALUATE, {"tokens": tokens})
    size = 400 * 512 * 4
    while engine.requests[slow].taken + 512 * 4 + 16 <= 256 << 10:
        assert engine.pump()
    quick = engine.wait(engine.begin(EVALUATE, {"tokens": [1, 2, 3]}))[0]
    assert len(quick.logits) == 3 * 512
    taken = engine.requests[slow].taken
    assert taken <= 256 << 10 and not engine.requests[slow].ended
    with pytest.raises(TimeoutError):
        engine.pump(timeout=0.3)
    engine.credit(slow, taken)
    engine.generous = True
    assert len(engine.wait(slow)[0].logits) * 4 == size
    finish(engine)


def test_a_request_that_is_cancelled_while_it_pauses_ends_without_credit(v3):
    v3.generous = False
    stalled = v3.begin(EVALUATE, {"tokens": [i % 512 for i in range(600)]})
    while v3.requests[stalled].taken < 250_000:
        v3.pump()
    v3.send(CANCEL, stalled)
    assert v3.wait(stalled)[0].failure["code"] == "cancelled"
    finish(v3)


def test_a_cancelled_request_ends_and_gives_its_place_to_the_next(start, r1_image):
    engine = start(r1_image, parallel=1)
    running = engine.begin(GENERATE, {"prompt": "a", "max_tokens": 1000, "sampling": {"temperature": 2, "seed": 3}})
    waiting = [engine.begin(GENERATE, {"prompt": "b", "max_tokens": 1000}) for _ in range(3)]
    last = engine.begin(GENERATE, {"prompt": "c", "max_tokens": 2, "sampling": GREEDY})
    for number in waiting + [running]:
        engine.send(CANCEL, number)
    requests = engine.wait(running, last, *waiting)
    assert requests[1].done
    for request in requests[2:]:
        assert request.failure["code"] == "cancelled"
    engine.send(CANCEL, 12345)  # of nobody
    assert engine.ping()[1]["running"] == 0
    finish(engine)


def test_a_ping_is_answered_at_once_in_the_middle_of_a_prompt(start, v3_image):
    engine = start(v3_image, parallel=2)
    engine.begin(EVALUATE, {"tokens": [i % 512 for i in range(1200)]})
    engine.begin(GENERATE, {"prompt": [i % 512 for i in range(1200)], "max_tokens": 50})
    for _ in range(20):
        delay, load_now = engine.ping()
        assert load_now["total"] == 2 * 1280
        assert delay < 10  # 0.1 s is the promise; a loaded machine gets more
    engine.wait(1, 2)
    assert engine.ping()[1]["tokens"] >= 2400
    finish(engine)


def test_a_large_request_comes_in_a_memfd(r1):
    request = r1.generate(messages=say("x" * 100000))
    assert request.failure["code"] == "context_length_exceeded"
    finish(r1)


def test_what_runs_is_finished_before_the_engine_quits(r1):
    number = r1.begin(GENERATE, {"prompt": "a", "max_tokens": 100, "sampling": {"temperature": 2, "seed": 5}})
    r1.send(QUIT)
    late = r1.begin(GENERATE, {"prompt": "b"})
    requests = r1.wait(number, late)
    assert requests[0].done and requests[1].failure["code"] == "shutting_down"
    status, errors = r1.end()
    assert status == 0, errors


def test_an_engine_without_a_broker_ends(r1):
    r1.begin(GENERATE, {"prompt": "a", "max_tokens": 1000})
    status, errors = r1.end(timeout=30)
    assert status == 0, errors


@pytest.mark.parametrize("message", [
    (MAP, 0, b"{}"), (EVENTS, 0, b""), (999, 0, b""), (PING, 0, b"short"), (broker.CREDIT, 1, b"12345"),
])
def test_a_broker_that_breaks_the_rules_is_given_up(r1, message):
    r1.send(*message)
    while r1.pump():
        pass
    status, errors = r1.end()
    assert status == 1 and "ds-engine: " in errors and "Sanitizer" not in errors


def test_the_same_number_twice_is_a_breach(r1):
    r1.requests[77], r1.generous = broker.Request(), False  # it ends when it likes: credit might come too late
    for _ in range(2):
        r1.send(GENERATE, 77, {"prompt": "a", "max_tokens": 1000})
    while r1.pump():
        pass
    assert r1.end()[0] == 1


def test_requests_before_the_model_are_a_breach():
    engine = Helper("ds-engine")
    engine.send(PING, 0, struct.pack("<Q", 1))
    assert engine.receive()[0] == broker.PONG
    engine.send(GENERATE, 1, {"prompt": "a"})
    assert engine.receive() is None
    assert engine.end()[0] == 1


@pytest.mark.parametrize("change, words", [
    ({"kv_type": "q8"}, "kv_type"), ({"context": -1}, "context"), ({"backend": "none"}, "none"),
    ({"sampling": {"temperature": 5}}, "temperature"), ({"plugins": {"sampler-core": {"top_p": 2}}}, "top_p"),
    ({"dialect": "none"}, "none"),
])
def test_a_model_that_cannot_be_served_says_why(r1_image, change, words):
    with pytest.raises(Failed, match=words):
        Engine(r1_image, **change).kill()


def test_an_image_that_is_not_sealed_is_refused(r1_image):
    fd = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    os.write(fd, os.pread(r1_image, os.fstat(r1_image).st_size, 0))
    with pytest.raises(Failed, match="seal"):
        Engine(fd).kill()
    os.close(fd)


def test_an_image_of_another_precision_is_refused_or_served_the_same(v3_image, start):
    # The backend decides whether the layouts differ; never may the numbers be wrong.
    oracle = Oracle(TINY_V3)
    try:
        engine = start(v3_image, precision="fast", kv_type="f32")
    except Failed as failed:
        assert "layout" in failed.answer["message"]
        return
    request = engine.evaluate(tokens=oracle.ids)
    assert distance(request.logits, oracle.logits) < 0.5
    finish(engine)


def test_a_killed_engine_leaves_the_image_for_the_next(start, r1_image):
    engine = start(r1_image)
    engine.begin(GENERATE, {"prompt": "a", "max_tokens": 1000})
    engine.pump()
    engine.process.send_signal(signal.SIGKILL)
    engine.kill()
    begin = time.monotonic()
    engine = start(r1_image)
    assert engine.generate(messages=say("What is 12 + 30?"), max_tokens=200, sampling=GREEDY).text(CONTENT).strip() == "42"
    assert time.monotonic() - begin < 30
    finish(engine)

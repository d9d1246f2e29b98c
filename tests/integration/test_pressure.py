"""Under memory pressure nothing is loaded and idle models go, the one that was used longest ago first."""
import contextlib
import os
import pathlib

import pytest

from deepseekd import until
from null_daemon import CHAT, NullDaemon, chat

IMAGE = 512 << 20


@pytest.fixture
def pressed(tmp_path):
    """A daemon with three models, and a function that says once that memory is short."""
    fifo = tmp_path / "pressure"
    os.mkfifo(fifo)
    models = [{"name": name, "path": name} for name in ("one", "two", "three")]
    with NullDaemon(*models, environment={"MEMORY_PRESSURE_WATCH": str(fifo)}) as daemon:
        with open(fifo, "wb", buffering=0) as pipe:
            yield daemon, lambda: pipe.write(b"x")


def state(daemon, name):
    return daemon.model(name)["state"]


def test_idle_models_are_dropped_the_longest_unused_first_and_nothing_is_loaded(pressed):
    daemon, press = pressed
    for name in ("one", "two"):
        daemon.load(name)
    for name in ("two", "one"):  # the last to be used is the first that was loaded
        assert daemon.post(CHAT, chat("tokens=1", model=name))[0] == 200
    press()
    until("two to be gone", lambda: state(daemon, "two") == "absent")
    assert daemon.model("two")["reason"] == "it was dropped because memory was short"
    assert state(daemon, "one") == "ready"
    status, answer = daemon.post("/admin/v1/models/three/load", {})
    assert (status, answer["error"]["code"]) == (503, "memory_pressure"), answer
    status, answer = daemon.post(CHAT, chat("tokens=1", model="two"))
    assert (status, answer["error"]["code"]) == (503, "memory_pressure"), answer
    assert daemon.post(CHAT, chat("tokens=1", model="one"))[0] == 200  # what is loaded answers
    press()
    until("one to be gone", lambda: state(daemon, "one") == "absent")
    assert "memory is short: nothing is loaded" in daemon.log() and "model two: dropped" in daemon.log()


def test_a_model_in_use_stays(pressed):
    daemon, press = pressed
    daemon.load("one")
    connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", model="one", stream=True))
    until("it to run", lambda: daemon.model("one")["running"] == 1)
    press()
    until("the word of it", lambda: "memory is short" in daemon.log())
    assert state(daemon, "one") == "ready"
    connection.close()
    until("the end of the request", lambda: daemon.model("one")["running"] == 0)
    press()
    until("one to be gone", lambda: state(daemon, "one") == "absent")


def available():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def test_the_memory_of_a_dropped_model_comes_back(pressed):
    if available() < 6 * IMAGE:
        pytest.skip("not enough memory for an image of 512 MiB")
    daemon, press = pressed
    daemon.write_model({"name": "one", "path": "one"}, weights=IMAGE, fill=True)
    # Others use this machine too: what they take meanwhile is not the daemon's, so a few times must do.
    for attempt in range(5):
        until("a load that is taken", lambda: daemon.post("/admin/v1/models/one/load", {})[0] == 200)
        before = available()
        press()
        until("it to be gone", lambda: state(daemon, "one") == "absent")
        with contextlib.suppress(AssertionError):
            until("its memory", lambda: available() - before >= 0.95 * IMAGE, patience=3)
            return
    raise AssertionError(f"{available() - before} bytes came back of {IMAGE}")

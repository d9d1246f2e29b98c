"""The broker on a private bus: with busctl, and with sd-bus itself where a descriptor is handed over."""

import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from deepseekd import until
from null_daemon import NullDaemon

NAME, PATH, MANAGER = "org.deepseekd1", "/org/deepseekd1", "org.deepseekd1.Manager"
CONFIG = """<busconfig><type>system</type><listen>unix:path={}</listen><policy context="default">
<allow user="*"/><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>"""


class Bus:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dsd-bus-"))
        self.folder.chmod(0o755)
        self.address = f"unix:path={self.folder}/bus"
        (self.folder / "bus.conf").write_text(CONFIG.format(self.folder / "bus"))
        self.process = subprocess.Popen(["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork"],
                                        stderr=subprocess.DEVNULL)
        until("the bus", (self.folder / "bus").exists)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)

    def run(self, *args):
        return subprocess.run(["busctl", f"--address={self.address}", *args], capture_output=True, text=True, timeout=30)

    def call(self, method, *args):
        return self.run("call", NAME, PATH, MANAGER, method, *args)

    def get(self, name):
        return self.run("get-property", NAME, PATH, MANAGER, name).stdout.strip()


@pytest.fixture
def bus():
    bus = Bus()
    yield bus
    bus.stop()


@pytest.fixture
def daemon(bus):
    with NullDaemon(bus=bus.address) as d:
        until("the name", lambda: bus.get("State") == 's "running"')
        yield d


class Generation:
    """Generate() by sd-bus; the descriptor is read until its end."""

    def __init__(self, address, model, prompt, **options):
        sd = ctypes.CDLL("libsystemd.so.0")
        bus, error, reply, fd = ctypes.c_void_p(), ctypes.create_string_buffer(64), ctypes.c_void_p(), ctypes.c_int()
        assert sd.sd_bus_new(ctypes.byref(bus)) >= 0
        sd.sd_bus_set_address(bus, address.encode())
        sd.sd_bus_set_bus_client(bus, 1)
        assert sd.sd_bus_start(bus) >= 0
        values = []
        for name, (kind, value) in options.items():
            values += [name.encode(), kind.encode(), value]
        r = sd.sd_bus_call_method(bus, NAME.encode(), PATH.encode(), MANAGER.encode(), b"Generate", error, ctypes.byref(reply),
                                  b"ssa{sv}", model.encode(), prompt.encode(), ctypes.c_int(len(options)), *values)
        assert r >= 0, os.strerror(-r)
        assert sd.sd_bus_message_read(reply, b"h", ctypes.byref(fd)) >= 0
        self.pipe = os.fdopen(os.dup(fd.value), "rb")
        sd.sd_bus_message_unref(reply)
        sd.sd_bus_flush_close_unref(bus)


def test_version_and_state_are_properties(bus, daemon):
    assert bus.get("Version") == f's "{daemon.status()["version"]}"'
    shown = bus.run("introspect", NAME, PATH, MANAGER).stdout
    assert "ssa{sv}" in shown and "emits-change" in shown and "const" in shown


def test_load_model_waits_until_it_is_ready(bus, daemon):
    daemon.write_model({"name": "null", "path": "null"}, delay_ms=300)
    loaded = bus.call("LoadModel", "s", "null")
    assert loaded.returncode == 0, loaded.stderr
    assert daemon.model("null")["state"] == "ready"
    assert bus.call("LoadModel", "s", "").returncode == 0  # the default


def test_a_model_that_cannot_load_is_an_error_with_the_reason(bus, daemon):
    daemon.write_model({"name": "null", "path": "null"}, fail="it is broken")
    assert "it is broken" in bus.call("LoadModel", "s", "null").stderr
    assert 'no model "none"' in bus.call("LoadModel", "s", "none").stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_not_load(bus, daemon):
    ran = subprocess.run(["busctl", f"--address={bus.address}", "call", NAME, PATH, MANAGER, "LoadModel", "s", "null"],
                         capture_output=True, text=True, user=65534)
    assert ran.returncode != 0 and "Access denied" in ran.stderr  # which is all that busctl tells of this error
    assert daemon.model("null")["state"] == "absent"


def test_generate_streams_the_text_of_the_answer(bus, daemon):
    assert Generation(bus.address, "null", "tokens=200 reasoning=50 delay_us=100").pipe.read() == b"t" * 300


def test_generate_streams_lines_of_json(bus, daemon):
    raw = Generation(bus.address, "null", "tokens=3 reasoning=1 tool=1", format=("s", b"json"), max_tokens=("u", ctypes.c_uint32(2)),
                     temperature=("d", ctypes.c_double(0.5))).pipe.read()
    assert [json.loads(line) for line in raw.splitlines()] == [
        {"reasoning": "tt"}, {"content": "tt"}, {"tool_name": "lookup"}, {"tool_arguments": '{"x":'}, {"tool_arguments": " 1}"},
        {"done": {"finish_reason": "tool_calls", "prompt_tokens": 10, "completion_tokens": 2}}]


def test_an_error_is_a_line_of_json(bus, daemon):
    raw = Generation(bus.address, "null", "long=1", format=("s", b"json")).pipe.read()
    assert json.loads(raw)["error"]["code"] == "context_length_exceeded"


def test_closing_the_reading_end_cancels(bus, daemon):
    generation = Generation(bus.address, "null", "tokens=1000000 delay_us=1000")
    assert generation.pipe.read(10) == b"t" * 10
    generation.pipe.close()
    until("the cancellation", daemon.cancelled, 5)
    assert daemon.cancelled()[0] < 100000
    daemon.wait_idle()


def test_closing_it_before_the_first_token_cancels_too(bus, daemon):
    generation = Generation(bus.address, "null", "prefill_ms=60000")
    daemon.wait_running(1)
    generation.pipe.close()
    until("the cancellation", daemon.cancelled, 5)


def test_a_slow_reader_of_a_pipe_holds_up_nobody(bus, daemon):
    generation = Generation(bus.address, "null", "tokens=2000 size=1000")
    assert Generation(bus.address, "null", "tokens=20").pipe.read() == b"t" * 40
    assert generation.pipe.read() == b"t" * 2000000


@pytest.mark.parametrize("options", [("1", "colour", "s", "red"), ("1", "format", "s", "xml"), ("1", "format", "u", "1"),
                                     ("1", "max_tokens", "u", "0"), ("1", "max_tokens", "s", "9"), ("1", "temperature", "d", "2.5"), ("1", "thinking", "s", "yes"),
                                     ("2", "format", "s", "json", "colour", "s", "red")], ids=" ".join)
def test_a_bad_option_is_named(bus, daemon, options):
    ran = bus.call("Generate", "ssa{sv}", "null", "x", *options)
    assert ran.returncode != 0 and f"option {'colour' if 'colour' in options else options[1]}" in ran.stderr
    assert daemon.status()["requests"] == {"running": 0, "queued": 0}


def test_an_unknown_model_cannot_generate(bus, daemon):
    assert "no model" in bus.call("Generate", "ssa{sv}", "none", "x", "0").stderr


def test_a_prompt_is_no_larger_than_a_body_may_be(bus, daemon):
    daemon.write_config({"default_model": "null", "listen": {"max_body": "1KiB"}})
    daemon.reload()
    until("the new limit", lambda: "read again" in daemon.log())
    assert bus.call("Generate", "ssa{sv}", "null", "x" * 1024, "0").returncode == 0
    assert "1025 bytes, and listen.max_body allows 1024" in bus.call("Generate", "ssa{sv}", "null", "x" * 1025, "0").stderr


def test_a_bus_that_was_asked_for_must_be_there():
    daemon = NullDaemon(bus="unix:path=/nowhere/bus")
    ran = subprocess.run(daemon.arguments, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and "D-Bus" in ran.stderr


def test_the_default_bus_may_be_missing():
    daemon = NullDaemon(environment={"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere/bus", "XDG_RUNTIME_DIR": "/nowhere"})
    at = daemon.arguments.index("--bus")
    del daemon.arguments[at:at + 2]
    with daemon:
        assert daemon.get("/healthz")[0] == 200
        assert "going on without it" in daemon.log()


def test_a_second_daemon_on_the_same_bus_is_refused(bus, daemon):
    second = NullDaemon(bus=bus.address)
    ran = subprocess.run(second.arguments, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1 and "D-Bus" in ran.stderr
    assert daemon.get("/healthz")[0] == 200

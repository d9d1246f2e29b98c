"""The broker on a private bus: the manager and its ways of generating."""

import contextlib
import json
import os
import re
import subprocess

import dbus
import pytest
from deepseekd import until
from null_daemon import NullDaemon
from private_bus import MANAGER, NAME, PATH, Bus, Client, Failure, variants

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


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


@pytest.fixture
def client(bus, daemon):
    return Client(bus.address)


def test_version_features_and_state_are_properties(bus, daemon, client):
    assert bus.get("Version") == f's "{daemon.status()["version"]}"'
    properties = client.get_all(PATH, MANAGER)
    assert properties["State"] == "running" and properties["StateReason"] == ""
    assert set(properties["Features"]) >= {"generate", "complete", "inhibit", "reload", "handle-token"}
    shown = bus.run("introspect", NAME, PATH, MANAGER).stdout
    assert "ssa{sv}" in shown and "emits-change" in shown and "const" in shown


def test_load_model_waits_until_it_is_ready(bus, daemon):
    daemon.write_model({"name": "null", "path": "null"}, delay_ms=300)
    loaded = bus.call("LoadModel", "s", "null")
    assert loaded.returncode == 0, loaded.stderr
    assert daemon.model("null")["state"] == "ready"
    assert bus.call("LoadModel", "s", "").returncode == 0  # the default


def test_unload_model_waits_until_it_is_absent(bus, daemon):
    assert bus.call("LoadModel", "s", "null").returncode == 0
    assert bus.call("UnloadModel", "s", "null").returncode == 0
    assert daemon.model("null")["state"] == "absent"
    assert bus.call("UnloadModel", "s", "null").returncode == 0  # which it is already
    assert 'no model "none"' in bus.call("UnloadModel", "s", "none").stderr


def test_a_load_that_is_unloaded_is_cancelled(daemon, client, bus):
    daemon.write_model({"name": "null", "path": "null"}, delay_ms=60000)
    loading = subprocess.Popen(["busctl", f"--address={bus.address}", "call", NAME, PATH, MANAGER, "LoadModel", "s", "null"],
                               stderr=subprocess.PIPE, text=True)
    until("loading", lambda: daemon.model("null")["state"] == "loading")
    client.manager("UnloadModel", "(s)", "null")
    assert "unloaded while it was loading" in loading.communicate()[1] and loading.returncode != 0


def test_a_model_that_cannot_load_is_an_error_with_the_reason(bus, daemon, client):
    daemon.write_model({"name": "null", "path": "null"}, fail="it is broken")
    with pytest.raises(Failure, match="it is broken") as failure:
        client.manager("LoadModel", "(s)", "null")
    assert failure.value.name == "org.deepseekd1.Error.LoadFailed"
    with pytest.raises(Failure, match='no model "none"') as failure:
        client.manager("LoadModel", "(s)", "none")
    assert failure.value.name == "org.deepseekd1.Error.NoSuchModel"


@needs_root
def test_another_user_may_not_load(bus, daemon):
    for arguments in (("LoadModel", "s", "null"), ("UnloadModel", "s", "null"), ("Reload",)):
        ran = bus.call(*arguments, user=65534)
        assert ran.returncode != 0 and "Access denied" in ran.stderr  # which is all that busctl tells of this error
    assert daemon.model("null")["state"] == "absent"


def test_reload_returns_when_the_new_configuration_is_in_force(daemon, client):
    daemon.write_model({"name": "other", "path": "other"})
    client.manager("Reload")
    assert daemon.model("other")["state"] == "absent"


def test_a_reload_that_is_refused_is_an_error_and_the_reason_of_the_state(daemon, client):
    daemon.write_config({"default_model": "null", "nonsense": 1})
    with pytest.raises(Failure, match="has errors") as failure:
        client.manager("Reload")
    assert failure.value.name == "org.deepseekd1.Error.ReloadFailed"
    assert "old one is in force" in client.get(PATH, MANAGER, "StateReason")
    until("the signal", lambda: client.named("PropertiesChanged"))
    assert client.named("PropertiesChanged")[-1][3][1]["StateReason"]
    daemon.write_config({"default_model": "null"})
    client.manager("Reload")
    assert client.get(PATH, MANAGER, "StateReason") == ""


def test_generate_streams_the_text_of_the_answer(client):
    path, stream = client.generate("tokens=200 reasoning=50 delay_us=100")
    assert path.startswith(client.request_path(""))
    assert stream.read() == b"t" * 300


def test_generate_streams_lines_of_json(client):
    raw = client.generate("tokens=3 reasoning=1 tool=1", format="json", max_tokens=("u", 2), temperature=("d", 0.5))[1].read()
    assert [json.loads(line) for line in raw.splitlines()] == [
        {"reasoning": "tt"}, {"content": "tt"}, {"tool_name": "lookup"}, {"tool_arguments": '{"x":'}, {"tool_arguments": " 1}"},
        {"done": {"finish_reason": "tool_calls", "prompt_tokens": 10, "completion_tokens": 2}}]


def test_an_error_is_a_line_of_json(client):
    raw = client.generate("long=1", format="json")[1].read()
    assert json.loads(raw)["error"]["code"] == "context_length_exceeded"


def test_what_is_no_text_ends_the_answer(client):
    raw = client.generate("bad_utf8=1", format="json")[1].read()
    assert json.loads(raw)["error"]["code"] == "internal"
    with pytest.raises(Failure, match="not valid UTF-8"):
        client.complete("bad_utf8=1")


def test_closing_the_reading_end_cancels(daemon, client):
    _, stream = client.generate("tokens=1000000 delay_us=1000")
    assert stream.read(10) == b"t" * 10
    stream.close()
    until("the cancellation", daemon.cancelled)
    assert daemon.cancelled()[0] < 100000
    daemon.wait_idle()
    until("the signal", lambda: client.named("Finished"))
    assert client.named("Finished")[0][3][0] == "cancelled"


def test_closing_it_before_the_first_token_cancels_too(daemon, client):
    _, stream = client.generate("prefill_ms=60000")
    daemon.wait_running(1)
    stream.close()
    until("the cancellation", daemon.cancelled)


def test_a_slow_reader_of_a_pipe_holds_up_nobody(client):
    _, slow = client.generate("tokens=2000 size=1000")
    assert client.generate("tokens=20")[1].read() == b"t" * 40
    assert slow.read() == b"t" * 2000000


def test_complete_answers_in_its_reply(client):
    text, details = client.complete("tokens=3 reasoning=1 tool=1")
    assert text == "tttt"
    assert json.loads(details.pop("tool_calls")) == [{"name": "lookup", "arguments": '{"x": 1}'}]
    assert details == {"finish_reason": "tool_calls", "reasoning": "tt", "prompt_tokens": 10, "cached_tokens": 2,
                       "completion_tokens": 3, "reasoning_tokens": 1}
    assert client.complete("tokens=0") == ("", {"finish_reason": "stop", "prompt_tokens": 10, "cached_tokens": 2,
                                                "completion_tokens": 0, "reasoning_tokens": 0})


def test_complete_is_for_short_answers(daemon, client):
    with pytest.raises(Failure, match="use Generate") as failure:
        client.complete("tokens=1000000 size=4000")
    assert failure.value.name == "org.freedesktop.DBus.Error.LimitsExceeded"
    until("the cancellation", daemon.cancelled)


@pytest.mark.parametrize("prompt, error", [("long=1", "org.deepseekd1.Error.ContextLengthExceeded"),
                                           ("fail=1", "org.freedesktop.DBus.Error.InvalidArgs"),
                                           ("die=1", "org.deepseekd1.Error.EngineDied")])
def test_a_failure_is_an_error_of_complete(client, prompt, error):
    with pytest.raises(Failure) as failure:
        client.complete(prompt)
    assert failure.value.name == error


def test_generating_with_a_model_that_failed_is_an_error_of_the_call(daemon, client):
    daemon.write_model({"name": "null", "path": "null"}, fail="it is broken")
    with pytest.raises(Failure, match="it is broken"):
        client.complete("x")
    with pytest.raises(Failure, match="it is broken") as failure:  # at once: it is not tried again so soon
        client.generate("x")
    assert failure.value.name == "org.deepseekd1.Error.LoadFailed"
    assert client.named("InterfacesAdded") == [] or client.named("Finished")


BAD = {"colour": "red", "format": "xml", "max_tokens": ("u", 0), "temperature": ("d", 2.5), "top_p": ("i", 0),
       "top_k": ("s", "many"), "thinking": "yes", "stop": ("as", [""]), "seed": ("d", 0.5), "handle_token": "a/b", "tools": ("i", 1)}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("method", ["Generate", "Complete"])
def test_a_bad_option_is_named(daemon, client, name, method):
    with pytest.raises(Failure, match=f"option {name}") as failure:
        client.manager(method, "(ssa{sv})", "null", "x", variants({"raw": ("b", True), name: BAD[name]}))
    assert failure.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
    assert daemon.status()["requests"] == {"running": 0, "queued": 0} and client.requests() == []


@pytest.mark.parametrize("options", [{"messages": "[}"}, {"messages": "{}"}, {"messages": '[], "owner": 1'}, {"tools": "7"},
                                     {"messages": "[]", "tools": '[], "messages": []'}], ids=str)
def test_json_that_is_none_is_refused(client, options):
    with pytest.raises(Failure, match="options? (messages|tools)") as failure:
        client.complete("x", **options)
    assert failure.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
    assert client.requests() == []


def test_raw_takes_nothing_of_a_conversation(client):
    assert client.complete("tokens=2", raw=("b", True))[0] == "tttt"
    with pytest.raises(Failure, match="option raw"):
        client.complete("x", raw=("b", True), system="be brief")


def test_all_options_together(client):
    messages = [{"role": "user", "content": "tokens=9"}, {"role": "assistant", "content": "tt"}, {"role": "user", "content": "tokens=4"}]
    tools = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
    options = {"messages": json.dumps(messages), "tools": json.dumps(tools), "system": "be brief", "max_tokens": ("i", 3),
               "temperature": ("i", 1), "top_p": ("d", 0.9), "top_k": ("y", 40), "seed": ("t", 7), "stop": ("as", ["a", "b"]),
               "thinking": ("b", False), "handle_token": "mine"}
    assert client.complete("", **options)[0] == "tttttt"


def test_messages_go_before_the_input(client):
    assert client.complete("tokens=5", messages='[{"role": "user", "content": "tokens=1"}]')[0] == "t" * 10
    with pytest.raises(Failure, match="the input is empty"):
        client.complete("")


def test_large_messages_are_read_beside_others(daemon, client):
    """Megabytes of JSON are read in slices, so another's answer is not held up; both come out right."""
    messages = json.dumps([{"role": "user", "content": "x" * 2000000}, {"role": "user", "content": "y" * 2000 + " tokens=2"}])
    text, details = client.complete("", messages=messages)
    assert text == "tttt" and details["finish_reason"] == "stop"


def test_an_unknown_model_cannot_generate(client):
    for call in (client.generate, client.complete):
        with pytest.raises(Failure, match="no model"):
            call("x", model="none")


def test_a_request_is_no_larger_than_a_body_may_be(daemon, client):
    daemon.write_config({"default_model": "null", "listen": {"max_body": "1KiB"}})
    client.manager("Reload")
    assert client.complete("x" * 1024)[0]
    with pytest.raises(Failure, match="1025 bytes, and listen.max_body allows 1024"):
        client.complete("x" * 1000, system="y" * 25)


def test_an_inhibitor_lasts_until_its_descriptor_is_closed(daemon, client):
    _, fds = client.call_with_fds(PATH, MANAGER, "Inhibit", "(ss)", "a test", "it counts")
    until("the log", lambda: "a test" in daemon.log())
    assert client.manager("Inhibit", "(ss)", "a test", "again")
    with pytest.raises(Failure, match="must not be empty"):
        client.manager("Inhibit", "(ss)", "", "x")
    held = [client.call_with_fds(PATH, MANAGER, "Inhibit", "(ss)", "many", "x")[1] for _ in range(15)]
    with pytest.raises(Failure, match="already inhibits") as failure:
        for _ in range(3):
            held.append(client.call_with_fds(PATH, MANAGER, "Inhibit", "(ss)", "many", "x")[1])
    assert failure.value.name == "org.freedesktop.DBus.Error.LimitsExceeded"
    for part in (fds, *held):
        for fd in part.steal_fds():
            os.close(fd)

    def again():
        with contextlib.suppress(Failure):
            return client.call_with_fds(PATH, MANAGER, "Inhibit", "(ss)", "many", "x")[1]
    until("room for another", again)


def test_a_client_that_leaves_gives_its_inhibitors_up(bus, daemon, client):
    leaver = Client(bus.address)
    held = [leaver.call_with_fds(PATH, MANAGER, "Inhibit", "(ss)", "x", "y")[1] for _ in range(16)]
    with pytest.raises(Failure, match="already inhibits"):
        client.manager("Inhibit", "(ss)", "x", "y")
    leaver.close()

    def again():
        with contextlib.suppress(Failure):
            return client.manager("Inhibit", "(ss)", "x", "y")
    until("room for another", again)
    assert len(held) == 16


def test_busctl_and_gdbus_and_dbus_python_understand_it(bus, daemon):
    tool = subprocess.run(["gdbus", "call", "--address", bus.address, "--dest", NAME, "--object-path", PATH, "--method",
                           f"{MANAGER}.Complete", "null", "tokens=2", "{'max_tokens': <1>}"], capture_output=True, text=True)
    assert tool.returncode == 0 and tool.stdout.startswith("('tt',"), tool.stderr
    shown = json.loads(bus.run("--json=short", "call", NAME, PATH, MANAGER, "Complete", "ssa{sv}", "null", "tokens=2", "0").stdout)
    assert shown["data"][0] == "tttt"
    connection = dbus.bus.BusConnection(bus.address)
    manager = dbus.Interface(connection.get_object(NAME, PATH), MANAGER)
    path, fd = manager.Generate("null", "tokens=3", {"max_tokens": 2, "temperature": 0.5, "stop": ["x"]})
    with os.fdopen(fd.take(), "rb") as stream:
        assert stream.read() == b"tttt"
    assert re.fullmatch(rf"{PATH}/request/\w+/r[0-9a-f]{{16}}", path)
    connection.close()


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

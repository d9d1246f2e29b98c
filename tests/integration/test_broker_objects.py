"""Models and requests as objects of the bus: what they say, who sees them, and who is told."""

import os
import pathlib
import xml.etree.ElementTree

import pytest
from deepseekd import STAGE, Deepseekd, until
from null_daemon import NullDaemon
from private_bus import KEYS, MANAGER, MODEL, NAME, OBJECTS, PATH, PROPERTIES, REQUEST, Bus, Client, Failure, GLib, variants

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
MODELS = f"{PATH}/model"
LONG = "tokens=1000000 delay_us=1000"
USERS = (65534, 1, 2)  # nobody, daemon, bin: those whom every machine has
UNKNOWN = "org.freedesktop.DBus.Error.UnknownObject"


@pytest.fixture
def bus():
    bus = Bus()
    yield bus
    bus.stop()


@pytest.fixture
def daemon(bus):
    with NullDaemon({"name": "null", "path": "null", "aliases": ["nil", "nought"]}, bus=bus.address) as d:
        until("the name", lambda: bus.get("State") == 's "running"')
        yield d


@pytest.fixture
def client(bus, daemon):
    return Client(bus.address)


def refused(error, call, *args, **options):
    with pytest.raises(Failure) as failure:
        call(*args, **options)
    assert failure.value.name == error, failure.value
    return str(failure.value)


def changes(client, name, path):
    """The values that property @name of @path was said to have, in order."""
    return [s[3][1][name] for s in client.named("PropertiesChanged") if s[0] == path and name in s[3][1]]


def nodes(client, path):
    text = client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")[0]
    return [node.get("name") for node in xml.etree.ElementTree.fromstring(text).iter("node") if node.get("name")]


# Models


def test_a_model_is_an_object(daemon, client):
    client.manager("LoadModel", "(s)", "null")
    shown = client.objects()[f"{MODELS}/null"][MODEL]
    assert shown == client.get_all(f"{MODELS}/null", MODEL)
    assert shown.pop("ImageSize") > 0 and shown.pop("Progress")[0] > 0
    assert shown == {"Name": "null", "Aliases": ["nil", "nought"], "State": "ready", "StateReason": "", "Warning": "", "Capabilities": ["chat", "tools"],
                     "Architecture": "null", "Dialect": "null", "Context": 1024, "Parameters": 1, "MappedSize": 0,
                     "CacheTokens": 4096, "Loads": 1, "EngineStarts": 1}
    assert "null" in nodes(client, MODELS)


def test_names_are_escaped_in_paths(bus, daemon, client):
    daemon.write_model({"name": "r1-1.5b:q8", "path": "null"})
    client.manager("Reload")
    path = f"{MODELS}/r1_2d1_2e5b_3aq8"
    until("the object", lambda: path in client.objects())
    assert client.get(path, MODEL, "Name") == "r1-1.5b:q8"


def test_loading_is_told(daemon, client):
    path = f"{MODELS}/null"
    daemon.write_model({"name": "null", "path": "null", "aliases": ["nil", "nought"]}, delay_ms=1200, weights=1000)
    assert client.get(path, MODEL, "Capabilities") == []
    client.call(path, MODEL, "Load")
    until("ready", lambda: "ready" in changes(client, "State", path))
    assert changes(client, "State", path) == ["loading", "ready"]
    assert changes(client, "Capabilities", path) == [["chat", "tools"]]
    progress = changes(client, "Progress", path)
    assert progress == sorted(progress) and 1 < len(progress) < 10
    client.call(path, MODEL, "Unload")
    until("absent", lambda: "absent" in changes(client, "State", path))
    assert client.get(path, MODEL, "ImageSize") == 0


def test_a_failure_is_told_with_its_reason(daemon, client):
    path = f"{MODELS}/null"
    daemon.write_model({"name": "null", "path": "null", "aliases": ["nil", "nought"]}, fail="it is broken")
    assert "it is broken" in refused("org.deepseekd1.Error.LoadFailed", client.call, path, MODEL, "Load")
    until("failed", lambda: "failed" in changes(client, "State", path))
    assert "it is broken" in changes(client, "StateReason", path)[-1]


def test_a_reload_adds_and_removes_objects(daemon, client):
    daemon.write_model({"name": "other", "path": "null"})
    client.manager("Reload")
    until("the signal", lambda: client.named("InterfacesAdded"))
    where, _, _, (path, interfaces) = client.named("InterfacesAdded")[0]
    assert (where, path) == (PATH, f"{MODELS}/other") and interfaces[MODEL]["State"] == "absent"
    (daemon.folder / "models.d/other.yaml").unlink()
    client.manager("Reload")
    until("the signal", lambda: client.named("InterfacesRemoved"))
    assert client.named("InterfacesRemoved")[0][3] == (f"{MODELS}/other", [MODEL])
    assert list(client.objects()) == [f"{MODELS}/null"]
    refused(UNKNOWN, client.get_all, f"{MODELS}/other", MODEL)


def test_aliases_change_without_a_load(daemon, client):
    daemon.write_model({"name": "null", "path": "null", "aliases": ["zero"]})
    client.manager("Reload")
    until("the change", lambda: changes(client, "Aliases", f"{MODELS}/null") == [["zero"]])


def test_tokens_are_not_told(daemon, client):
    client.complete("tokens=500 delay_us=1000")
    told = [s for s in client.named("PropertiesChanged") if s[0].startswith(f"{PATH}/request/")]
    assert [s[3][1] for s in told] == [{"State": "prefill"}, {"State": "running"}, {"State": "done"}]


@needs_root
def test_another_user_sees_models_and_may_not_load_them(bus, daemon):
    other = Client(bus.address, 65534)
    assert other.get(f"{MODELS}/null", MODEL, "State") == "absent"
    for method in ("Load", "Unload"):
        refused("org.freedesktop.DBus.Error.AccessDenied", other.call, f"{MODELS}/null", MODEL, method)
    assert daemon.model("null")["state"] == "absent"


def test_capabilities_are_what_rendering_in_the_dialect_shows():
    with Deepseekd("tiny-r1", {"name": "wordless", "path": str(FIXTURES / "qwen3")}) as daemon:
        daemon.load("tiny-r1")
        assert daemon.model("tiny-r1")["capabilities"] == ["chat", "completion", "reasoning", "tools"]
        daemon.load("wordless")
        assert daemon.model("wordless")["capabilities"] == []


# Requests


def test_a_request_is_an_object_until_it_has_finished(daemon, client):
    path, stream = client.generate(LONG, model="nil")
    stream.read(1)
    shown = client.get_all(path, REQUEST)
    assert shown.pop("CompletionTokens") >= 1
    assert shown == {"Owner": os.geteuid(), "Model": f"{MODELS}/null", "State": "running", "Position": 0, "PromptTokens": 10}
    assert client.get(path, REQUEST, "State") == "running"
    assert client.requests() == [path]
    client.call(path, REQUEST, "Cancel")
    until("the end", lambda: client.named("InterfacesRemoved"))
    assert client.named("InterfacesAdded")[0][3][0] == path
    (where, interface, _, (outcome, usage)), = client.named("Finished")
    assert (where, interface, outcome) == (path, REQUEST, "cancelled")
    assert usage["prompt_tokens"] == 10 and usage["error"] == "org.deepseekd1.Error.Cancelled"
    assert client.named("InterfacesRemoved")[0][3] == (path, [REQUEST])
    assert client.requests() == [] and daemon.cancelled()
    refused(UNKNOWN, client.get_all, path, REQUEST)
    refused(UNKNOWN, client.call, path, REQUEST, "Cancel")


def test_a_finished_request_says_how_and_how_much(client):
    _, stream = client.generate("tokens=3 reasoning=1", handle_token="one")
    assert stream.read() == b"tttt"
    until("the signal", lambda: client.named("Finished"))
    path, _, _, (outcome, usage) = client.named("Finished")[0]
    assert path == client.request_path("one") and outcome == "stop"
    assert usage == {"prompt_tokens": 10, "cached_tokens": 2, "completion_tokens": 3, "reasoning_tokens": 1}


def test_a_failed_request_says_why(client):
    client.generate("long=1")[1].read()
    until("the signal", lambda: client.named("Finished"))
    outcome, usage = client.named("Finished")[0][3]
    assert outcome == "failed" and "99 tokens" in usage["message"]
    assert usage["error"] == "org.deepseekd1.Error.ContextLengthExceeded"


def test_a_request_may_be_named_by_its_client_and_only_once(client):
    path, stream = client.generate(LONG, handle_token="mine")
    assert path == client.request_path("mine")
    for again in (client.generate, client.complete):
        assert path in refused("org.deepseekd1.Error.HandleInUse", again, "x", handle_token="mine")
    client.call(path, REQUEST, "Cancel")
    stream.close()
    assert client.complete("tokens=1", handle_token="mine")[0] == "tt"


def test_complete_is_cancelled_by_its_name(bus, client):
    done = []
    client.connection.call(NAME, PATH, MANAGER, "Complete", complete_arguments(LONG, "long"), None, 0, -1, None,
                           lambda connection, result: done.append(reply_of(connection, result)))
    other = Client(bus.address)  # of the same user
    until("the request", lambda: client.request_path("long") in other.requests())
    other.call(client.request_path("long"), REQUEST, "Cancel")
    until("the answer", lambda: client.named("Finished") and done)
    assert done == ["org.deepseekd1.Error.Cancelled"]


def complete_arguments(prompt, token):
    return GLib.Variant("(ssa{sv})", ("null", prompt, variants({"handle_token": token})))


def reply_of(connection, result):
    try:
        return connection.call_finish(result).unpack()
    except GLib.Error as error:
        return Failure(error).name


def test_who_waits_has_a_position(daemon, client):
    running = [client.generate(LONG) for _ in range(4)]  # all that run at once
    daemon.wait_running(4)
    kept = [client.generate(LONG) for _ in range(3)]
    waiting = [path for path, _ in kept]
    assert [client.get(path, REQUEST, "Position") for path in waiting] == [1, 2, 3]
    assert [client.get(path, REQUEST, "State") for path in waiting] == ["queued"] * 3
    assert client.get(running[0][0], REQUEST, "Position") == 0
    client.call(waiting[0], REQUEST, "Cancel")
    assert [client.get(path, REQUEST, "Position") for path in waiting[1:]] == [1, 2]


def test_a_client_that_leaves_ends_its_requests(bus, daemon, client):
    leaver = Client(bus.address)
    _, stream = leaver.generate(LONG)
    stream.read(1)
    assert len(client.requests()) == 1
    leaver.close()  # and the pipe stays open
    until("the cancellation", daemon.cancelled)
    assert client.requests() == []
    stream.read()  # which ends


def test_signals_about_a_request_go_to_its_client_alone(bus, daemon, client):
    listener = Client(bus.address)
    client.generate("tokens=3")[1].read()
    until("the end", lambda: client.named("InterfacesRemoved"))
    listener.get(PATH, MANAGER, "State")  # whatever was sent before has come by now
    until("a model's change", lambda: listener.named("PropertiesChanged"))
    assert {s[0] for s in listener.signals} <= {f"{MODELS}/null"}


@needs_root
def test_three_users_do_not_see_each_other_and_root_sees_all(bus, daemon, client):
    daemon.write_model({"name": "null", "path": "null", "aliases": ["nil", "nought"], "parallel": 8})
    client.manager("Reload")
    users = [Client(bus.address, uid) for uid in USERS]
    requests = [user.generate(LONG, handle_token="it") for user in users]
    for _, stream in requests:
        stream.read(1)
    paths = [path for path, _ in requests]
    for i, user in enumerate(users):
        assert user.requests() == [paths[i]]
        assert user.get(paths[i], REQUEST, "Owner") == USERS[i]
        assert nodes(user, f"{PATH}/request") == [] and "it" not in nodes(user, PATH)
        for other in paths[:i] + paths[i + 1:]:
            absent = refused(UNKNOWN, user.get_all, f"{other}x", REQUEST)
            assert refused(UNKNOWN, user.get_all, other, REQUEST) == absent.replace(f"{other}x", other)
            refused(UNKNOWN, user.get, other, REQUEST, "State")
            refused(UNKNOWN, nodes, user, other)
            there = refused("org.freedesktop.DBus.Error.AccessDenied", user.call, other, REQUEST, "Cancel")
            assert refused("org.freedesktop.DBus.Error.AccessDenied", user.call, f"{other}x", REQUEST, "Cancel") == there
    assert sorted(client.requests()) == sorted(paths)
    for path in paths:
        client.call(path, REQUEST, "Cancel")
    until("all cancelled", lambda: len(daemon.cancelled()) == 3)
    assert [user.named("Finished")[0][0] for user in users] == paths


def test_properties_of_a_request_are_read_only_and_calls_are_checked(client):
    path, stream = client.generate(LONG)
    refused("org.freedesktop.DBus.Error.PropertyReadOnly", client.call, path, PROPERTIES, "Set", "(ssv)", REQUEST, "State",
            GLib.Variant("s", "done"))
    refused("org.freedesktop.DBus.Error.UnknownProperty", client.get, path, REQUEST, "Nothing")
    refused("org.freedesktop.DBus.Error.UnknownProperty", client.get, path, "org.example", "State")
    refused("org.freedesktop.DBus.Error.UnknownInterface", client.get_all, path, "org.example")
    refused("org.freedesktop.DBus.Error.UnknownMethod", client.call, path, REQUEST, "Restart")
    refused("org.freedesktop.DBus.Error.InvalidArgs", client.call, path, REQUEST, "Cancel", "(s)", "now")
    refused(UNKNOWN, client.get_all, f"{path}/below", REQUEST)
    stream.close()


# What is installed


def described(root):
    """Each interface: its members, without what is for people."""
    found = {}
    for interface in root.iter("interface"):
        members = set()
        for member in interface:
            if member.tag in ("method", "signal"):
                arguments = tuple((a.get("name"), a.get("type"), a.get("direction", "in" if member.tag == "method" else None))
                                  for a in member.iter("arg"))
                members.add((member.tag, member.get("name"), arguments))
            elif member.tag == "property":
                emits = [a.get("value") for a in member.iter("annotation") if a.get("name").endswith("EmitsChangedSignal")]
                members.add((member.tag, member.get("name"), member.get("type"), member.get("access"), *(emits or ["true"])))
        found[interface.get("name")] = members
    return found


def test_the_installed_descriptions_are_what_the_objects_say(client):
    path, stream = client.generate(LONG)
    for name, where in ((MANAGER, PATH), (KEYS, PATH), (MODEL, f"{MODELS}/null"), (REQUEST, path)):
        live = described(xml.etree.ElementTree.fromstring(
            client.call(where, "org.freedesktop.DBus.Introspectable", "Introspect")[0]))
        file = pathlib.Path(STAGE / f"share/dbus-1/interfaces/{name}.xml")
        assert described(xml.etree.ElementTree.parse(file).getroot()) == {name: live[name]}
        assert PROPERTIES in live
    stream.close()
    assert OBJECTS in described(xml.etree.ElementTree.fromstring(
        client.call(PATH, "org.freedesktop.DBus.Introspectable", "Introspect")[0]))


def test_the_manual_names_every_member(client):
    manual = (pathlib.Path(__file__).parents[2] / "docs/org.deepseekd1.5").read_text().replace("\\-", "-")
    for name in (MANAGER, KEYS, MODEL, REQUEST):
        for interface in xml.etree.ElementTree.parse(STAGE / f"share/dbus-1/interfaces/{name}.xml").getroot():
            for member in interface:
                if member.tag in ("method", "signal", "property"):
                    assert member.get("name") in manual, (name, member.get("name"))

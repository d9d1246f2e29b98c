"""What one user learns of what another asks: nothing, by whatever is open to every user."""

import contextlib
import itertools
import json
import os
import socket

import pytest
from deepseekd import Connection, until
from null_daemon import CHAT, NullDaemon, chat
from private_bus import MANAGER, MODEL, OBJECTS, PATH, PROPERTIES, REQUEST, Bus, Client, Failure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

ALICE, BOB = 65534, 1  # nobody and daemon: those whom every machine has
LONG = "tokens=1000000 delay_us=1000"
PAGES = ["/healthz", "/v1/models", "/v1/models/null", "/metrics", "/admin/v1/status", "/admin/v1/keys", "/admin/v1/plugins"]
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"


@contextlib.contextmanager
def acting_as(uid):
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


class User:
    """A user at the socket and on the bus."""

    def __init__(self, uid, bus, daemon):
        self.uid, self.daemon, self.bus = uid, daemon, Client(bus.address, uid)

    def send(self, method, path, body=None):
        connection = Connection(self.daemon.socket)
        with acting_as(self.uid):
            connection.connect()
        connection.request(method, path, json.dumps(body) if body else None)
        return connection

    def page(self, path):
        with contextlib.closing(self.send("GET", path)) as connection:
            response = connection.getresponse()
            return response.status, [h for h in response.getheaders() if h[0] not in ("x-request-id", "Date")], response.read()

    def call(self, *args):
        try:
            return self.bus.call(*args)
        except Failure as failure:
            return failure.name, str(failure)

    def look(self):
        """All that there is to see."""
        seen = {page: self.page(page) for page in PAGES}
        seen["objects"] = self.call(PATH, OBJECTS, "GetManagedObjects")
        for path in (PATH, f"{PATH}/model", f"{PATH}/model/null", f"{PATH}/request"):
            seen[f"below {path}"] = self.call(path, INTROSPECTABLE, "Introspect")
        for path, interface in ((PATH, MANAGER), (f"{PATH}/model/null", MODEL)):
            seen[interface] = self.call(path, PROPERTIES, "GetAll", "(s)", interface)
        return seen

    def reads_metrics(self):
        with socket.socket(socket.AF_UNIX) as s, acting_as(self.uid), contextlib.suppress(PermissionError):
            s.connect(self.daemon.metrics)
            return True
        return False


@pytest.fixture
def daemon():
    bus = Bus()
    try:
        daemon = NullDaemon(bus=bus.address)
        daemon.metrics = str(daemon.folder / "run/metrics.sock")
        # Bob's group may connect; Alice is let in by her being everybody.
        daemon.write_config({"default_model": "null", "listen": {"mode": "0666", "group": "daemon", "metrics": daemon.metrics}})
        daemon.write_model({"name": "null", "path": "null", "parallel": 2})
        with daemon:
            for folder in (daemon.folder, daemon.folder / "run"):
                os.chmod(folder, 0o755)
            until("the name", lambda: bus.get("State") == 's "running"')
            daemon.load("null")
            daemon.alice, daemon.bob = (User(uid, bus, daemon) for uid in (ALICE, BOB))
            yield daemon
    finally:
        bus.stop()


def test_all_looks_the_same_whether_others_ask_or_not(daemon):
    alice, bob = daemon.alice, daemon.bob
    alice.send("GET", "/healthz").getresponse().read()
    nobody_asks = bob.look()
    bob.bus.named("all so far")
    del bob.bus.signals[:]
    connections = [alice.send("POST", CHAT, chat(LONG, stream=n % 2 == 0)) for n in range(4)]
    requests = [alice.bus.generate(LONG) for _ in range(3)]
    until("all", lambda: sum(daemon.status()["requests"].values()) == 7)
    assert len(alice.bus.requests()) == 3
    assert bob.look() == nobody_asks
    for connection in connections:
        connection.close()
    for path, stream in requests:
        alice.call(path, REQUEST, "Cancel")
        stream.close()
    daemon.wait_idle()
    assert bob.look() == nobody_asks
    assert bob.bus.named("all so far") == [] and bob.bus.signals == []


def test_the_place_in_the_queue_is_that_among_the_own_requests(daemon):
    """Though those of others come first: of Alice, who was served less."""
    alice, bob = daemon.alice.bus, daemon.bob.bus
    path, first = bob.generate(LONG)
    streams = [first, *(alice.generate("prefill_ms=600000")[1] for _ in range(4))]
    daemon.wait_running(2)
    until("much of an answer", lambda: bob.get(path, REQUEST, "CompletionTokens") > 100)
    mine = [bob.generate(LONG) for _ in range(3)]
    assert [bob.get(path, REQUEST, "Position") for path, _ in mine] == [1, 2, 3]
    for stream in streams + [stream for _, stream in mine]:
        stream.close()


def test_the_names_that_requests_are_given_do_not_count_those_of_others(daemon):
    numbers = []
    for _ in range(3):
        path, stream = daemon.bob.bus.generate("tokens=1")
        stream.close()
        numbers.append(int(path.rpartition("/r")[2], 16))
        daemon.alice.bus.complete("tokens=1")
    assert all(abs(a - b) > 1000 for a, b in itertools.combinations(numbers, 2)), numbers


def test_the_metrics_are_for_root_and_the_daemons_user(daemon):
    assert daemon.bob.page("/healthz")[0] == 200  # the folder is open to him
    assert not daemon.bob.reads_metrics() and not daemon.alice.reads_metrics()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon.metrics)

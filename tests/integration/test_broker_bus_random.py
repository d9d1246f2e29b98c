"""Random calls of the whole interface, right and wrong, from several clients that come and go.

Afterwards the daemon answers, holds nothing of anybody, and has neither grown nor kept descriptors.
DEEPSEEKD_TEST_CALLS is the number of calls, DEEPSEEKD_TEST_SEED their seed; what answers took is printed.
"""

import collections
import os
import pathlib
import random
import time

from deepseekd import until
from null_daemon import NullDaemon
from private_bus import MANAGER, MODEL, NAME, OBJECTS, PATH, PROPERTIES, REQUEST, Bus, Client, Gio, GLib

N_CALLS = int(os.environ.get("DEEPSEEKD_TEST_CALLS", "1500"))
SEED = int(os.environ.get("DEEPSEEKD_TEST_SEED", "1"))
USERS = (None, 65534, 1) if os.geteuid() == 0 else (None,)
TEXTS = ["", "x", "null", "nil", "none", "tokens=3", "tokens=50 reasoning=3", "tokens=10000 delay_us=100", "fail=1", "long=1", "tool=1",
         "bad_utf8=1", "é中\U0001f600", "[]", "[}", '[{"role": "user", "content": "tokens=1"}]', "{}", '[], "x": 1', "a/b", "it",
         "json", "text", "State", "Version", "Name", MANAGER, MODEL, REQUEST, "y" * 70000]
OPTIONS = ["format", "handle_token", "max_tokens", "messages", "raw", "stop", "system", "thinking", "tools", "temperature",
           "top_p", "top_k", "seed", "presence_penalty", "colour", ""]
METHODS = [(MANAGER, "Generate", "(ssa{sv})", 8), (MANAGER, "Complete", "(ssa{sv})", 6), (MANAGER, "LoadModel", "(s)", 1),
           (MANAGER, "UnloadModel", "(s)", 1), (MANAGER, "Reload", "()", 1), (MANAGER, "Inhibit", "(ss)", 2), (MANAGER, "Nothing", "()", 1),
           (MODEL, "Load", "()", 1), (MODEL, "Unload", "()", 1), (REQUEST, "Cancel", "()", 4), (OBJECTS, "GetManagedObjects", "()", 2),
           (PROPERTIES, "Get", "(ss)", 3), (PROPERTIES, "GetAll", "(s)", 3), (PROPERTIES, "Set", "(ssv)", 1),
           ("org.freedesktop.DBus.Introspectable", "Introspect", "()", 2), ("org.freedesktop.DBus.Peer", "Ping", "()", 1)]


class Chance(random.Random):
    def value(self, kind):
        """A value of a basic type."""
        if kind in "ynqiuxt":
            low, high = {"y": (0, 255), "n": (-2**15, 2**15 - 1), "q": (0, 2**16 - 1), "i": (-2**31, 2**31 - 1), "u": (0, 2**32 - 1),
                         "x": (-2**63, 2**63 - 1), "t": (0, 2**64 - 1)}[kind]
            return self.choice([low, high, max(low, 0), 1, 5, self.randint(low, high)])
        if kind == "d":
            return self.choice([0.0, 0.5, 1.0, -1.0, 1e300, float("inf"), float("nan")])
        return self.random() < 0.5 if kind == "b" else self.choice(TEXTS)

    def variant(self):
        kind = self.choice(["y", "n", "i", "u", "x", "t", "d", "b", "s", "s", "s", "as", "a{sv}", "v"])
        if kind == "as":
            return GLib.Variant("as", [self.choice(TEXTS) for _ in range(self.randrange(20))])
        if kind == "a{sv}":
            return GLib.Variant("a{sv}", {self.choice(TEXTS): self.variant()})
        return GLib.Variant(kind, self.variant() if kind == "v" else self.value(kind))

    def arguments(self, types):
        if self.random() < 0.03:  # of other types than the method wants
            types = self.choice(["()", "(s)", "(i)", "(ssa{sv})", "(ssv)", "(sss)"])
        made = {"()": lambda: (), "(i)": lambda: (self.value("i"),), "(s)": lambda: (self.choice(TEXTS),),
                "(ss)": lambda: (self.choice(TEXTS), self.choice(TEXTS)), "(sss)": lambda: ("a", "b", "c"),
                "(ssv)": lambda: (self.choice(TEXTS), self.choice(TEXTS), self.variant()),
                "(ssa{sv})": lambda: (self.choice(["null", "null", "null", "nil", "", "none"]), self.choice(TEXTS),
                                      {self.choice(OPTIONS): self.variant() for _ in range(self.choice([0, 0, 1, 1, 2, 3]))})}
        return GLib.Variant(types, made[types]())

    def path(self, interface, clients):
        if self.random() < 0.05:
            return self.choice(["/", "/org", PATH + "/nothing", PATH + "/model", PATH + "/request", PATH + "/model/_zz"])
        if interface == MANAGER or interface == OBJECTS:
            return PATH
        request = self.choice([*self.choice(clients).known[-5:], self.choice(clients).request_path(self.choice(["it", "r1"]))])
        if interface == REQUEST:
            return request
        return f"{PATH}/model/null" if interface == MODEL else self.choice([PATH, f"{PATH}/model/null", request])


class Caller(Client):
    def __init__(self, address, uid):
        super().__init__(address, uid)
        self.known, self.streams, self.open = [], [], 0
        self.took = collections.defaultdict(list)  # seconds by method

    def start(self, path, interface, method, arguments):
        self.open += 1
        self.connection.call_with_unix_fd_list(NAME, path, interface, method, arguments, None, Gio.DBusCallFlags.NONE, 600000, None,
                                               None, self._on_reply, (method, time.monotonic()))

    def _on_reply(self, connection, result, began):
        self.open -= 1
        if not connection.is_closed():
            self.took[began[0]].append(time.monotonic() - began[1])
        try:
            reply, fds = connection.call_with_unix_fd_list_finish(result)
        except GLib.Error as error:
            # Every refusal has a name of D-Bus's or of ours: none is an accident.
            name = Gio.DBusError.get_remote_error(error)
            assert connection.is_closed() or name.startswith(("org.freedesktop.DBus.Error.", "org.deepseekd1.Error.")), error
            assert name not in ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.ServiceUnknown"), error
            return
        if fds:
            self.streams += [os.fdopen(fd, "rb") for fd in fds.steal_fds()]
        if reply.get_type_string() == "(oh)":
            self.known.append(reply.unpack()[0])

    def drop(self, chance):
        """Some of the pipes are read to what there is and all are closed."""
        for stream in self.streams:
            os.set_blocking(stream.fileno(), False)
            if chance.random() < 0.5:
                try:
                    stream.read()
                except OSError:
                    pass  # the end of an inhibitor cannot be read
            stream.close()
        self.streams = []


def turn():
    while GLib.MainContext.default().iteration(False):
        pass


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def rounds(bus, chance, n_calls):
    """Returns what the answers took, by method."""
    clients = [Caller(bus.address, uid) for uid in USERS]
    everybody = list(clients)
    for i in range(n_calls):
        client = chance.choice(clients)
        interface, method, types, _ = chance.choices(METHODS, [m[3] for m in METHODS])[0]
        client.start(chance.path(interface, clients), interface, method, chance.arguments(types))
        turn()
        if client.open > 20 or i % 50 == 49:
            for c in clients:
                c.drop(chance)
            until("answers", lambda: turn() or sum(c.open for c in clients) < 30)
        if i % 200 == 199:  # whoever leaves takes with him what still runs
            clients.append(Caller(bus.address, chance.choice(USERS)))
            everybody.append(clients[-1])
            clients.pop(chance.randrange(len(clients) - 1)).close()
    for c in clients:
        c.close()
    return {m[1]: sorted(t for c in everybody for t in c.took[m[1]]) for m in METHODS}


def report(took):
    for kind, seconds in took.items():
        if seconds:
            p50, p99, most = (1000 * seconds[i] for i in (len(seconds) // 2, len(seconds) * 99 // 100, -1))
            print(f"{kind:20} n={len(seconds):6} p50 {p50:8.2f} p99 {p99:8.2f} max {most:8.2f} ms")


def test_random_calls_leave_nothing_behind():
    bus = Bus()
    try:
        with NullDaemon({"name": "null", "path": "null", "aliases": ["nil"]}, bus=bus.address) as daemon:
            until("the name", lambda: bus.get("State") == 's "running"')
            chance = Chance(SEED)
            rounds(bus, chance, 300)  # whatever is allocated once is by now
            idle(bus, daemon)
            n_fds, rss = descriptors(daemon), daemon.rss_kib()
            report(rounds(bus, chance, N_CALLS))
            idle(bus, daemon)
            print(f"{N_CALLS} calls: {rss} KiB before, {daemon.rss_kib()} KiB after; {n_fds} and {descriptors(daemon)} descriptors")
            assert descriptors(daemon) <= n_fds
            if not os.environ.get("DEEPSEEKD_TEST_SANITIZE"):  # which keeps what was freed
                assert daemon.rss_kib() < rss + 4096 + N_CALLS // 10
            log = daemon.log()
            assert "the engine ended" not in log and "malformed" not in log
    finally:
        bus.stop()


def idle(bus, daemon):
    """Nothing of anybody is left, and the daemon and its model answer."""
    last = Client(bus.address)
    until("no requests", lambda: not last.requests())
    until("idle", lambda: daemon.status()["requests"] == {"running": 0, "queued": 0})
    assert last.complete("tokens=2")[0] == "tttt"
    last.close()
    assert pathlib.Path(f"/proc/{daemon.process.pid}").exists()

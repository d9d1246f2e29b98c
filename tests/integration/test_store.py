"""Images that systemd keeps: this file is the systemd, with a notification socket and descriptors handed over at the start."""

import array
import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys

import pytest

from deepseekd import Deepseekd, bundled, until
from null_daemon import CHAT, NullDaemon, chat

# Becomes the daemon, with descriptors from 3 on as systemd passes them.
EXEC = """
import os, sys
names, fds, args = sys.argv[1], sys.argv[2], sys.argv[3:]
fds = [int(fd) for fd in fds.split(",")] if fds else []
high = [os.dup2(fd, 200 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(args[0], args)
"""
SEALS = 0xF  # F_SEAL_SEAL, SHRINK, GROW, WRITE


class Manager:
    """What a service manager does for a service with a socket and a store of descriptors."""

    def __init__(self, daemon, fdstore=None):
        self.daemon = daemon
        self.store = {}  # name: descriptors
        self.log = []
        (daemon.folder / "run").mkdir(mode=0o700)
        path = str(daemon.folder / "notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.bind(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(daemon.socket)
        self.listener.listen(100)
        self.arguments = list(daemon.arguments)
        daemon.environment["NOTIFY_SOCKET"] = path

    def read(self):
        """Take all that was said so far."""
        while True:
            try:
                data, control, _, _ = self.notify.recvmsg(65536, 4096)
            except BlockingIOError:
                return self.log
            fds = array.array("i")
            for _, _, raw in control:
                fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in fields:
                self.store.setdefault(fields["FDNAME"], []).extend(fds)
            elif "FDSTOREREMOVE" in fields:
                for fd in self.store.pop(fields["FDNAME"], []):
                    os.close(fd)
            self.log.append(fields)

    def said(self, key, value=None):
        return any(key in fields and value in (None, fields[key]) for fields in self.read())

    def start(self):
        self.log = []
        passed = [("api", self.listener.fileno())] + [(name, fd) for name, fds in self.store.items() for fd in fds]
        for _, fd in passed:
            os.set_inheritable(fd, True)
        names, fds = ":".join(n for n, _ in passed), ",".join(str(f) for _, f in passed)
        self.daemon.arguments = [sys.executable, "-c", EXEC, names, fds, *self.arguments]
        popen = subprocess.Popen
        try:
            subprocess.Popen = lambda *args, **more: popen(*args, close_fds=False, **more)
            self.daemon.start()
        finally:
            subprocess.Popen = popen
        return self

    def restart(self):
        assert self.daemon.stop() == 0, self.daemon.log()
        self.read()
        return self.start()

    def crash(self):
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.read()
        return self.start()

    def images(self):
        self.read()
        return [name for name in self.store if name.startswith("img-")]


@contextlib.contextmanager
def managed(daemon):
    for fd in range(3, 100):  # what pytest holds must not be passed on by chance
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
    manager = Manager(daemon)
    try:
        manager.start()
        yield manager
    finally:
        for fds in manager.store.values():
            for fd in fds:
                os.close(fd)
        manager.listener.close()
        manager.notify.close()
        daemon.__exit__(*sys.exc_info())


def ready(daemon, name="null"):
    return until(f"{name} to be ready", lambda: daemon.model(name)["state"] == "ready" and daemon.model(name))


@pytest.mark.parametrize("way", ["restart", "crash"])
def test_an_image_survives_the_daemon_and_is_not_loaded_again(way):
    daemon = NullDaemon()
    with managed(daemon) as manager:
        daemon.load("null")
        until("the image in the store", manager.images)
        getattr(manager, way)()
        model = ready(daemon)
        assert model["loads"] == 1 and model["engine_starts"] == 1 and model["context"] > 0
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200
        getattr(manager, way)()
        assert ready(daemon)["loads"] == 1


def test_the_bundled_model_answers_from_a_kept_image_as_before():
    daemon = Deepseekd("tiny-r1")
    with managed(daemon) as manager:
        before = daemon.ask("What is 347+285?")["choices"][0]["message"]
        until("the image in the store", manager.images)
        described = daemon.model("tiny-r1")
        manager.restart()
        after = ready(daemon, "tiny-r1")
        assert daemon.ask("What is 347+285?")["choices"][0]["message"] == before
        assert after["loads"] == 1
        for key in ("context", "vocab", "architecture", "dialect", "parameters", "image_size", "kv_tokens"):
            assert after[key] == described[key], key


def test_what_is_stored_is_sealed_and_can_only_be_read():
    daemon = NullDaemon()
    with managed(daemon) as manager:
        daemon.load("null")
        name, = until("the image in the store", manager.images)
        about = "about-" + name.removeprefix("img-")
        for fd in manager.store[name] + manager.store[about]:
            assert fcntl.fcntl(fd, 1034) & SEALS == SEALS
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        fd, = manager.store[about]
        note = json.loads(os.pread(fd, 1 << 20, 0))
        assert note["loads"] == 1 and json.loads(note["identity"])["load"]["model"] == "null"


def test_unloading_takes_the_image_from_the_store():
    daemon = NullDaemon()
    with managed(daemon) as manager:
        daemon.load("null")
        until("the image in the store", manager.images)
        assert daemon.post("/admin/v1/models/null/unload", {})[0] == 200
        until("an empty store", lambda: manager.read() and not manager.store)


def test_a_model_that_vanishes_from_the_configuration_takes_its_image_along():
    daemon = NullDaemon({"name": "null", "path": "null"}, {"name": "other", "path": "other"})
    with managed(daemon) as manager:
        daemon.load("null")
        daemon.load("other")
        until("two images", lambda: len(manager.images()) == 2)
        (daemon.folder / "models.d/other.yaml").unlink()
        daemon.reload()
        until("one image", lambda: len(manager.images()) == 1)
        (daemon.folder / "models.d/null.yaml").rename(daemon.folder / "null.yaml")
        daemon.write_model({"name": "third", "path": "third"})
        daemon.write_config({"default_model": "third"})
        manager.restart()  # the model went while nobody looked
        until("an empty store", lambda: manager.read() and not manager.store)
        assert "belongs to no model as it is now" in daemon.log()


def test_changed_files_are_loaded_anew():
    daemon = NullDaemon()
    with managed(daemon) as manager:
        daemon.load("null")
        first, = until("the image in the store", manager.images)
        assert daemon.stop() == 0
        daemon.write_model({"name": "null", "path": "null"}, weights=8192)
        manager.start()
        until("the old image to go", lambda: manager.images() == [])
        assert daemon.model("null")["state"] == "absent"
        assert daemon.load("null")["loads"] == 1
        second, = until("the new image", manager.images)
        assert second != first


@pytest.mark.parametrize("what", ["writable", "no memfd", "about nothing", "about another", "no about"])
def test_what_is_no_image_of_ours_is_not_taken(what):
    daemon = NullDaemon()
    with managed(daemon) as manager:
        daemon.load("null")
        name, = until("the image in the store", manager.images)
        about = "about-" + name.removeprefix("img-")
        assert daemon.stop() == 0
        manager.read()
        good = json.loads(os.pread(manager.store[about][0], 1 << 20, 0))

        def replace(key, fd):
            for old in manager.store.pop(key):
                os.close(old)
            manager.store[key] = [fd]

        def note(content):
            fd = os.memfd_create("about", os.MFD_ALLOW_SEALING)
            os.write(fd, content)
            fcntl.fcntl(fd, 1033, SEALS)
            reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
            os.close(fd)
            return reader

        if what == "writable":
            replace(name, os.memfd_create("x", os.MFD_ALLOW_SEALING))
        elif what == "no memfd":
            replace(name, os.open("/dev/null", os.O_RDONLY))
        elif what == "about nothing":
            replace(about, note(b"[]"))
        elif what == "about another":
            replace(about, note(json.dumps({**good, "identity": "{}"}).encode()))
        else:
            os.close(manager.store.pop(about)[0])
        manager.start()
        until("it to be dropped", lambda: manager.read() and not manager.store)
        assert daemon.model("null")["state"] == "absent"
        assert daemon.load("null")["loads"] == 1


def test_an_image_that_the_engine_refuses_is_loaded_anew():
    daemon = Deepseekd("tiny-r1", environment={"DEEPSEEKD_TEST": "1"})
    with managed(daemon) as manager:
        daemon.load("tiny-r1")
        name, = until("the image in the store", manager.images)
        assert daemon.stop() == 0
        manager.read()
        size = os.fstat(manager.store[name][0]).st_size
        fd = os.memfd_create("image", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)  # as large, and nothing in it
        fcntl.fcntl(fd, 1033, SEALS)
        os.close(manager.store[name][0])
        manager.store[name] = [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)]
        os.close(fd)
        manager.start()
        model = ready(daemon, "tiny-r1")
        assert model["loads"] == 2 and "the kept image is of no use" in daemon.log()
        assert len(manager.images()) == 1


def test_a_mapped_model_comes_back_with_its_files():
    daemon = Deepseekd({**bundled("tiny-r1"), "residency": "mapped", "precision": "exact"})
    with managed(daemon) as manager:
        before = daemon.ask("What is 12+30?")["choices"][0]["message"]
        until("the image in the store", manager.images)
        mapped = daemon.model("tiny-r1")["mapped_size"]
        assert mapped > 0
        manager.restart()
        assert ready(daemon, "tiny-r1")["loads"] == 1
        assert daemon.model("tiny-r1")["mapped_size"] == mapped
        assert daemon.ask("What is 12+30?")["choices"][0]["message"] == before


def test_a_model_that_nobody_uses_is_unloaded_unless_it_is_pinned():
    daemon = NullDaemon({"name": "null", "path": "null", "keep_alive": "1s"},
                        {"name": "pinned", "path": "pinned", "keep_alive": "1s", "pin": True})
    with managed(daemon) as manager:
        daemon.load("pinned")
        daemon.load("null")
        until("it to be unloaded", lambda: daemon.model("null")["state"] == "absent")
        assert "not used for its keep_alive" in daemon.log()
        assert daemon.model("pinned")["state"] == "ready" and len(manager.images()) == 1


def test_a_change_of_keep_alive_does_not_load_anew():
    with NullDaemon() as daemon:
        daemon.load("null")
        pid = daemon.engine_pid()
        daemon.write_model({"name": "null", "path": "null", "keep_alive": "1s"})
        daemon.reload()
        until("it to be unloaded", lambda: daemon.model("null")["state"] == "absent")
        assert pid and daemon.model("null")["engine_starts"] == 1


def test_it_ends_by_itself_when_it_is_idle_and_the_next_client_is_served():
    daemon = NullDaemon({"name": "null", "path": "null", "keep_alive": "1s"}, config={"idle_exit": "1s"})
    with managed(daemon) as manager:
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200
        assert daemon.process.wait(60) == 0
        assert "nothing to do for idle_exit" in daemon.log() and manager.said("STOPPING")
        manager.start()
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200


def test_nobody_could_start_a_private_daemon_again_so_it_stays():
    with NullDaemon(config={"idle_exit": "1s"}) as daemon:
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(2.5)


def test_the_status_tells_models_and_requests():
    daemon = NullDaemon()
    with managed(daemon) as manager:
        connection, response = daemon.open("POST", CHAT, {**chat("tokens=100000 delay_us=1000"), "stream": True})
        until("the status", lambda: any(re.search(r"null ready, 0 models not loaded; 1 request running, 0 waiting", f.get("STATUS", ""))
                                        for f in manager.read()))
        response.close()
        connection.close()
        until("the status", lambda: "0 requests running" in [f["STATUS"] for f in manager.read() if "STATUS" in f][-1])


def test_the_watchdog_is_fed_while_the_loop_runs_and_not_while_it_hangs():
    daemon = NullDaemon()
    daemon.environment["WATCHDOG_USEC"] = "200000"
    with managed(daemon) as manager:
        until("food", lambda: manager.said("WATCHDOG", "1"))
        daemon.signal(19)  # SIGSTOP: a loop that hangs
        manager.read()
        n = len(manager.log)
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(1)
        assert len(manager.read()) <= n + 1
        daemon.signal(18)
        until("food again", lambda: len(manager.read()) > n + 2)


def test_an_engine_whose_requests_get_no_further_is_killed():
    with NullDaemon(config={"limits": {"step_timeout": "1s"}}) as daemon:
        status, answer = daemon.post(CHAT, chat("prefill_ms=600000 tokens=1"))
        assert status == 500 and answer["error"]["code"] == "engine_died", answer
        assert "its requests got no further" in daemon.log()
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200

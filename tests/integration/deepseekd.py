"""The staged daemon, started for a test in a folder of its own, and plain HTTP to talk to it.

DEEPSEEKD_STAGE names the prefix of `make install` (build/stage by default). Models are the bundled one (its name) or
dictionaries of what their YAML file says.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import yaml

STAGE = pathlib.Path(os.environ.get("DEEPSEEKD_STAGE", "build/stage")).resolve()
VENDOR = STAGE / "lib/deepseekd"
DSCTL = str(STAGE / "bin/dsctl")
# Confined processes show what is inside of them to root alone, not even to their own user.
SEES_INSIDE = os.geteuid() == 0
# Sanitizers make everything slower; nothing that is tested depends on how much.
PATIENCE = 240 if os.environ.get("DEEPSEEKD_TEST_SANITIZE") else 60
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer")


def bundled(name):
    """What the vendor's file says of a bundled model, its path made absolute."""
    model = yaml.safe_load((VENDOR / f"models.d/{name}.yaml").read_text())
    model["path"] = str((VENDOR / "models.d" / model["path"]).resolve())
    return model


def until(what, condition, patience=PATIENCE):
    """Wait for condition() to be true and return what it returned."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {patience} s for {what}"
        time.sleep(0.01)


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Deepseekd:
    """with Deepseekd("tiny-r1", {"name": "mine", "path": ...}) as daemon: daemon.post("/v1/...", {...})"""

    def __init__(self, *models, config=None, arguments=(), environment=None, bus="none"):
        # A short path: that of a socket has 107 bytes at most.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dsd-"))
        self.socket = str(self.folder / "run/api.sock")
        self.config = self.folder / "deepseekd.yaml"
        self.log_path = self.folder / "log"
        self.arguments = [str(STAGE / "sbin/deepseekd"), "--config", str(self.config), "--runtime-dir", str(self.folder / "run"),
                          "--state-dir", str(self.folder / "state"), "--bus", bus, *arguments]
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        models = [bundled(m) if isinstance(m, str) else m for m in models or ("tiny-r1",)]
        self.write_config({"default_model": models[0]["name"], **(config or {})})
        for model in models:
            self.write_model(model)

    def write_config(self, config):
        vendor = yaml.safe_load((VENDOR / "deepseekd.yaml").read_text())
        self.config.write_text(yaml.safe_dump({"version": 1, "plugins": vendor["plugins"], **config}))

    def write_model(self, model):
        (self.folder / "models.d").mkdir(exist_ok=True)
        (self.folder / f"models.d/{model['name']}.yaml").write_text(yaml.safe_dump(model))

    def start(self):
        for name in ("run", "state"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment)
        until("the daemon's socket", self.is_up)
        return self

    def is_up(self):
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log()}"
        with contextlib.suppress(OSError):
            return self.get("/healthz")[0] == 200

    def stop(self):
        """SIGTERM; the exit status, which is 0 if all is well."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise

    def __exit__(self, kind, value, trace):
        try:
            status = self.stop() if self.process else 0
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            log = self.log()
            if kind:
                print(log)
            shutil.rmtree(self.folder, ignore_errors=True)
        if not kind:
            assert status == 0, f"the daemon ended with {status}:\n{log}"
            assert not SANITIZER.search(log), log

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self):
        self.signal(signal.SIGHUP)

    def open(self, method, path, body=None, headers=None):
        """A connection and its response, whose body is not read yet."""
        connection = Connection(self.socket)
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})} if raw is not None else {})
        return connection, connection.getresponse()

    def request(self, method, path, body=None):
        """Status and body; JSON is parsed."""
        connection, response = self.open(method, path, body)
        with contextlib.closing(connection):
            raw = response.read()
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return response.status, json.loads(raw) if is_json else raw

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None):
        return self.request("POST", path, body)

    def stream(self, path, body):
        """The objects of a stream of server-sent events, which must end with [DONE]."""
        connection, response = self.open("POST", path, {**body, "stream": True})
        with contextlib.closing(connection):
            assert response.status == 200, response.read()
            for line in response:
                line = line.rstrip(b"\r\n")
                if line == b"data: [DONE]":
                    return
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        raise AssertionError("the stream ended without [DONE]")

    def ask(self, question, **more):
        """The whole chat completion of one question, greedy."""
        status, answer = self.post("/v1/chat/completions",
                                   {"messages": [{"role": "user", "content": question}], "temperature": 0, **more})
        assert status == 200, answer
        return answer

    def status(self):
        status, answer = self.get("/admin/v1/status")
        assert status == 200, answer
        return answer

    def model(self, name):
        return next(m for m in self.status()["models"] if m["name"] == name)

    def load(self, name):
        status, answer = self.post(f"/admin/v1/models/{name}/load", {})
        assert status == 200, answer
        return answer

    def dsctl(self, *args, stdin=None, code=0, environment=None):
        """Standard output and error of a run that must end with @code."""
        ran = subprocess.run([DSCTL, "--socket", self.socket, *args], capture_output=True, timeout=PATIENCE,
                             env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
                             **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}))
        assert ran.returncode == code, f"{ran.returncode}: {ran.stderr.decode(errors='replace')}"
        return ran.stdout.decode(), ran.stderr.decode()

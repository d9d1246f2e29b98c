"""What the tests in the booted system share. They run as root, after `make install` or the package was laid over the root."""

import ctypes
import http.client
import json
import os
import pathlib
import pwd
import re
import socket
import subprocess
import time

SOCKET = "/run/deepseekd/api.sock"
MODEL = pathlib.Path("/usr/share/deepseekd/models/tiny-r1/model.safetensors")
CHAT = "/v1/chat/completions"


def run(*args, code=0, user=None):
    """Standard output of a command that must end with @code."""
    ran = subprocess.run([*(("runuser", "-u", user, "--") if user else ()), *args], capture_output=True, text=True, timeout=60)
    assert ran.returncode == code, f"{args}: {ran.returncode}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def show(name, unit="deepseekd.service"):
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def until(what, condition, patience=30):
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {patience} s for {what}; {run('journalctl', '-u', 'deepseekd', '-n', '30', '--no-pager')}"
        time.sleep(0.02)


class Connection(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("localhost", timeout=60)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def request(method, path, body=None):
    connection = Connection()
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def ask(question="What is 347+285?", **more):
    status, answer = request("POST", CHAT, {"messages": [{"role": "user", "content": question}], "temperature": 0, **more})
    assert status == 200, answer
    return answer["choices"][0]["message"]["content"]


def first_token(model="tiny-r1"):
    """Seconds until the first event of a stream that says something."""
    begin = time.monotonic()
    connection = Connection()
    connection.request("POST", CHAT, json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True}),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    for line in response:
        if re.search(rb'"(reasoning_)?content": ?"[^"]', line):
            break
    else:
        raise AssertionError("a stream without a token")
    passed = time.monotonic() - begin
    connection.close()
    return passed


def model(name="tiny-r1"):
    status, answer = request("GET", "/admin/v1/status")
    assert status == 200, answer
    return next(m for m in answer["models"] if m["name"] == name)


class Reads:
    """Is a file read from now on, by whomever? (Its atime would not tell: the service sees the file on a read-only mount.)"""

    ACCESS = 1  # IN_ACCESS

    def __init__(self, path):
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0 and libc.inotify_add_watch(self.fd, os.fsencode(path), self.ACCESS) >= 0

    def happened(self):
        try:
            return bool(os.read(self.fd, 4096))
        except BlockingIOError:
            return False


def main_pid():
    return int(show("MainPID"))


def kept():
    return int(show("NFileDescriptorStore"))


def service_uid():
    return pwd.getpwnam("deepseekd").pw_uid

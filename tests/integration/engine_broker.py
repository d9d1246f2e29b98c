"""Plays the broker: loads a checkpoint with ds-loader, starts ds-engine on the image, and talks to it."""
import array
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import time

MAGIC, VERSION, INLINE = 0x6B736444, 1, 65536
HEADER = struct.Struct("<IHHQIHH")
FILES, LOAD, GO, PLAN, PROGRESS, LOADED, FAILED = range(1, 8)
MAP, GENERATE, EVALUATE, CANCEL, CREDIT, PING, QUIT, READY, EVENTS, PONG = range(32, 42)
STARTED, REASONING, CONTENT, TOOL_NAME, TOOL_ARGUMENTS, LOGPROBS, LOGITS, DONE, REQUEST_FAILED = range(1, 10)
TEXTS = (REASONING, CONTENT, TOOL_NAME, TOOL_ARGUMENTS)
FINISH = {1: "stop", 2: "length", 3: "tool_calls"}
F_ADD_SEALS, SEAL, SHRINK, GROW, WRITE = 1033, 1, 2, 4, 8
TIMEOUT = 60

STAGE = os.path.abspath(os.environ.get("DEEPSEEKD_STAGE", "build/stage"))
HELPERS = os.path.join(STAGE, "libexec/deepseekd")
PLUGIN_DIR = os.path.join(STAGE, "lib/deepseekd/plugins")
PLUGINS = ["format-safetensors", "format-gguf", "tokenizer-bpe", "tokenizer-spm", "backend-cpu", "sampler-core",
           "dialect-deepseek"]
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Helper:
    """A helper process and the broker's end of its socket."""

    def __init__(self, program, plugins=PLUGINS):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * (INLINE + HEADER.size))
        arguments = [os.path.join(HELPERS, program), "--plugin-dir", PLUGIN_DIR]
        for name in plugins:
            arguments += ["--plugin", name]
        environment = dict(ENVIRONMENT, **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        number = fcntl.fcntl(theirs, fcntl.F_DUPFD, 10)
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec 3<&{number} {number}<&-; exec "$@"', "bash"] + arguments,
            pass_fds=[number], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(number)
        theirs.close()

    def send(self, kind, request=0, payload=b"", fds=()):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        fds, flags, n_fds, inline = list(fds), 0, len(fds), payload
        memfd = None
        if len(payload) > INLINE:
            memfd = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
            os.write(memfd, payload)
            fcntl.fcntl(memfd, F_ADD_SEALS, SHRINK | GROW | WRITE)
            fds, flags, inline = fds + [memfd], 1, b""
        header = HEADER.pack(MAGIC, VERSION, kind, request, len(payload), n_fds, flags)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([header + inline], control)
        if memfd is not None:
            os.close(memfd)

    def receive(self, timeout=TIMEOUT):
        """The next message as (type, request, payload); None when the helper is gone."""
        if not select.select([self.socket], [], [], timeout)[0]:
            raise TimeoutError("the helper says nothing")
        try:
            data, control, _, _ = self.socket.recvmsg(INLINE + HEADER.size, 4096)
        except ConnectionResetError:
            return None
        if not data:
            return None
        magic, version, kind, request, size, n_fds, flags = HEADER.unpack(data[:HEADER.size])
        assert (magic, version) == (MAGIC, VERSION)
        payload = data[HEADER.size:]
        if flags & 1:
            fd = array.array("i", control[0][2])[-1]
            payload = os.pread(fd, size, 0)
            os.close(fd)
        assert len(payload) == size
        return kind, request, payload

    def end(self, timeout=TIMEOUT):
        """Wait for it to exit; the status and what it wrote to stderr."""
        self.socket.close()
        errors = self.process.stderr.read().decode()
        return self.process.wait(timeout), errors

    def kill(self):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()


class Failed(Exception):
    """The helper said FAILED."""

    def __init__(self, answer):
        super().__init__(answer["message"])
        self.answer = answer


def load(checkpoint, **options):
    """Load a checkpoint directory; the sealed image, read-only, as a descriptor, and what LOADED says."""
    settings = dict({"model": "test", "precision": "exact", "context": 0, "parallel": 4, "kv_type": "f32",
                     "backend": "auto", "dialect": "auto"}, **options)
    loader, image = Helper("ds-loader"), None
    names = sorted(n for n in os.listdir(checkpoint) if n.endswith((".json", ".safetensors")))
    with contextlib.ExitStack() as stack:
        stack.callback(loader.kill)
        fds = [os.open(os.path.join(checkpoint, n), os.O_RDONLY) for n in names]
        loader.send(FILES, 0, {"names": names}, fds)
        for fd in fds:
            os.close(fd)
        loader.send(LOAD, 0, settings)
        while True:
            message = loader.receive()
            assert message, loader.process.stderr.read().decode()
            kind, _, payload = message
            if kind == PLAN:
                size = struct.unpack("<6Q", payload)[4]
                image = os.memfd_create("image", os.MFD_ALLOW_SEALING)
                os.ftruncate(image, size)
                fcntl.fcntl(image, F_ADD_SEALS, SHRINK | GROW)
                loader.send(GO, 0, b"", [image])
            elif kind == FAILED:
                raise Failed(json.loads(payload))
            elif kind == LOADED:
                break
        assert loader.process.wait(TIMEOUT) == 0
    fcntl.fcntl(image, F_ADD_SEALS, WRITE)
    fcntl.fcntl(image, F_ADD_SEALS, SEAL)
    read_only = os.open(f"/proc/self/fd/{image}", os.O_RDONLY)
    os.close(image)
    return read_only, json.loads(payload)


class Request:
    """What came of one request so far."""

    def __init__(self):
        self.events, self.started, self.done, self.failure = [], None, None, None
        self.taken = 0

    @property
    def ended(self):
        return self.done is not None or self.failure is not None

    def text(self, *kinds):
        return b"".join(body for kind, body in self.events if kind in (kinds or TEXTS)).decode()

    @property
    def logits(self):
        floats = array.array("f")
        floats.frombytes(b"".join(body for kind, body in self.events if kind == LOGITS))
        return floats

    @property
    def logprobs(self):
        return [token for kind, body in self.events if kind == LOGPROBS for token in json.loads(body)]

    def add(self, kind, body):
        assert not self.ended, "an event after the end"
        self.events.append((kind, body))
        if kind == STARTED:
            assert self.started is None
            self.started = dict(zip(("prompt", "cached", "completion", "reasoning"), struct.unpack("<4I", body)))
        elif kind == DONE:
            *usage, finish, _ = struct.unpack("<6I", body)
            self.done = dict(zip(("prompt", "cached", "completion", "reasoning"), usage), finish=FINISH[finish])
        elif kind == REQUEST_FAILED:
            self.failure = json.loads(body)


class Engine(Helper):
    """ds-engine with an image mapped. Credit is given back at once unless `generous` is turned off."""

    def __init__(self, image, **options):
        super().__init__("ds-engine")
        self.requests, self.next_request, self.generous, self.pongs = {}, 1, True, []
        settings = dict({"model": "test", "precision": "exact", "context": 0, "parallel": 4, "kv_type": "f32",
                         "backend": "auto", "dialect": "auto", "plugins": {"backend-cpu": {"threads": 2}}}, **options)
        self.send(MAP, 0, settings, [image])
        message = self.receive()
        assert message, self.process.stderr.read().decode()
        if message[0] == FAILED:
            raise Failed(json.loads(message[2]))
        assert message[0] == READY
        self.ready = json.loads(message[2])

    def begin(self, kind, body):
        number = self.next_request
        self.next_request += 1
        self.requests[number] = Request()
        self.send(kind, number, body)
        return number

    def pump(self, timeout=TIMEOUT):
        """Take one message. False: the engine is gone."""
        message = self.receive(timeout)
        if message is None:
            return False
        kind, _, payload = message
        if kind == PONG:
            self.pongs.append(payload)
            return True
        assert kind == EVENTS, kind
        at, taken = 0, {}
        while at < len(payload):
            number, event, _, size = struct.unpack_from("<QHHI", payload, at)
            padded = 16 + (size + 7 & ~7)
            self.requests[number].add(event, payload[at + 16:at + 16 + size])
            taken[number] = taken.get(number, 0) + padded
            at += padded
        assert at == len(payload)
        for number, n in taken.items():
            self.requests[number].taken += n
            if self.generous:
                self.credit(number, n)
        return True

    def credit(self, number, n):
        self.send(CREDIT, number, struct.pack("<I", n))

    def wait(self, *numbers):
        while not all(self.requests[n].ended for n in numbers):
            assert self.pump(), "the engine is gone: " + self.process.stderr.read().decode()
        return [self.requests[n] for n in numbers]

    def ask(self, kind, **body):
        return self.wait(self.begin(kind, body))[0]

    def generate(self, **body):
        return self.ask(GENERATE, **body)

    def evaluate(self, **body):
        return self.ask(EVALUATE, **body)

    def ping(self):
        """Seconds until the answer, and the load it reports."""
        start, n = time.monotonic(), len(self.pongs)
        self.send(PING, 0, struct.pack("<Q", 0x1234567890ABCDEF))
        while len(self.pongs) == n:
            assert self.pump()
        echo, running, waiting, tokens, used, total = struct.unpack("<QIIQQQ", self.pongs[-1])
        assert echo == 0x1234567890ABCDEF
        return time.monotonic() - start, {"running": running, "waiting": waiting, "tokens": tokens, "used": used,
                                          "total": total}

    def quit(self):
        self.send(QUIT)
        while self.pump():
            pass
        return self.end()

"""journal_stub.py RECORDS COMMAND...: runs the command with its stderr as a stream of the journal, in a mount namespace where
a stub listens in the journal's place. Each entry becomes a line of JSON in RECORDS."""

import ctypes
import json
import os
import socket
import struct
import sys

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
JOURNAL = "/run/systemd/journal"


def mount(source, target, kind, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, flags, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def parse(datagram):
    """The journal's native protocol: NAME=value lines, or NAME, a line end, 8 bytes of size, the value."""
    entry = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = struct.unpack("<Q", rest[:8])[0]
            value, rest = rest[8:8 + size], rest[8 + size + 1:]
        entry[name.decode()] = value.decode()
        datagram = rest
    return entry


def main():
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) < 0:
        sys.exit(77)
    mount(None, b"/", None, MS_REC | MS_PRIVATE)
    mount(b"tmpfs", b"/run", b"tmpfs", 0)
    os.makedirs(JOURNAL)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(JOURNAL + "/socket")
    records = open(sys.argv[1], "w")
    parent = os.getpid()
    if os.fork() == 0:
        listener.settimeout(0.05)
        while True:  # what the daemon wrote last is taken after its end
            is_last = os.getppid() != parent
            try:
                datagram = listener.recv(1 << 20)
            except TimeoutError:
                if is_last:
                    os._exit(0)
                continue
            records.write(json.dumps(parse(datagram)) + "\n")
            records.flush()
    stderr = os.fstat(2)
    os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
    os.execv(sys.argv[2], sys.argv[2:])


main()

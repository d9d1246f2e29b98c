"""What the container cannot show, since it shares the kernel of its machine: Debian 12's 6.1, with control groups of version 2.

The folders beside this one are in Python's path. This is the first boot of a machine with the daemon installed.
"""

import ctypes
import errno
import fcntl
import json
import os
import pathlib
import re

import pytest

import machine
from deepseekd import Deepseekd, until
from test_mapped import FIXTURES, evaluate, large_model

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL, SHRINK, GROW, WRITE, EXEC = 1, 2, 4, 8, 0x20
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1
GROUPS = pathlib.Path("/sys/fs/cgroup")


def test_this_is_the_kernel_that_lacks_what_later_ones_have():
    assert os.uname().release.startswith("6.1.")
    assert ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION) == 2
    image = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    with pytest.raises(OSError) as refused:
        fcntl.fcntl(image, F_ADD_SEALS, WRITE | EXEC)
    assert refused.value.errno == errno.EINVAL
    assert fcntl.fcntl(image, F_GET_SEALS) == 0, "with a seal that is unknown none is set"


def image_of_engine():
    """The number of the image in the engine's map, and what /proc has of the descriptor that the daemon holds."""
    maps = pathlib.Path(f"/proc/{machine.model()['engine_pid']}/maps").read_text()
    mapped = re.search(r"^\S+ (\S+) \S+ \S+ (\d+) +/memfd:deepseekd-tiny-r1", maps, re.M)
    assert mapped, maps
    for fd in pathlib.Path(f"/proc/{machine.main_pid()}/fd").iterdir():
        if fd.stat().st_ino == int(mapped[2]) and "memfd:deepseekd-tiny-r1" in os.readlink(fd):
            return mapped[1], fd
    raise AssertionError("the daemon does not hold the image that its engine maps")


def test_the_service_answers_from_an_image_that_is_sealed_without_the_unknown_seal():
    assert "632" in machine.ask()
    protection, image = image_of_engine()
    assert protection == "r--s"
    descriptor = os.open(image, os.O_RDONLY)
    assert fcntl.fcntl(descriptor, F_GET_SEALS) == SEAL | SHRINK | GROW | WRITE
    os.close(descriptor)


def test_a_restart_of_the_service_takes_the_image_back():
    machine.until("the image in the store", lambda: machine.kept() == 2)
    pid = machine.main_pid()
    machine.run("systemctl", "restart", "deepseekd.service")
    assert "632" in machine.ask()
    assert machine.main_pid() != pid and machine.model()["loads"] == 1


def test_a_model_larger_than_the_memory_of_its_group_answers(tmp_path):
    limit, group = 128 << 20, GROUPS / "deepseekd-test"
    path = tmp_path / "large"
    large_model(path)
    assert (path / "model.safetensors").stat().st_size > 2 * limit
    model = {"path": str(path), "precision": "exact", "context": 512, "parallel": 1}
    tokens = json.loads((FIXTURES / "v2-lite/expected.json").read_text())["input_ids"]
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / "memory.max").write_text(str(limit))
        with Deepseekd({**model, "name": "mapped", "residency": "mapped"}) as daemon:
            (group / "cgroup.procs").write_text(str(daemon.process.pid))
            daemon.load("mapped")
            answer = evaluate(daemon, "mapped", tokens)
            events = dict(re.findall(r"^(\w+) (\d+)$", (group / "memory.events").read_text(), re.M))
            assert int(events["max"]) > 0, "the limit was reached"
            assert int(events["oom_kill"]) == 0
    finally:
        until("the group to be empty", lambda: "populated 0" in (group / "cgroup.events").read_text())
        group.rmdir()
    with Deepseekd({**model, "name": "resident"}) as daemon:
        assert evaluate(daemon, "resident", tokens) == answer

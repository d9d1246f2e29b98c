"""What helpers may not do, tried in their sandboxes beside a live daemon; and what becomes of one that tries."""
import os
import re
import subprocess

import pytest

from deepseekd import STAGE, Deepseekd, bundled
from engine_broker import load

FORBIDDEN = STAGE.parent / "tests/forbidden/forbidden"
CONFINED = not os.environ.get("DEEPSEEKD_TEST_SANITIZE")  # sanitizers need what a sandbox takes
REFUSED = {"killed", "EACCES", "EPERM", "ENOSYS", "ENOTTY"}
# The image's descriptor is for reading, whatever the filter says.
OF_THE_IMAGE = {"write the image": "EBADF", "write the image at a place": "EBADF", "cut the image": "EINVAL"}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """The arguments of forbidden after the profile: a live broker, its engine, an image, the socket, a file."""
    file = tmp_path_factory.mktemp("forbidden") / "file"
    file.write_text("")
    image = load(bundled("tiny-r1")["path"])[0]
    with Deepseekd("tiny-r1") as daemon:
        engine = daemon.load("tiny-r1")["engine_pid"]
        yield [str(daemon.process.pid), str(engine), str(image), daemon.socket, str(file)], image
        assert daemon.model("tiny-r1")["engine_pid"] == engine
        assert daemon.ask("What is 347+285?")["choices"][0]["message"]["content"].strip() == "632"


def tried(live, profile):
    arguments, image = live
    ran = subprocess.run([FORBIDDEN, profile, *arguments], pass_fds=[image], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return dict(line.rsplit(": ", 1) for line in ran.stdout.splitlines())


def test_without_a_sandbox_what_is_tried_is_possible(live):
    rows = tried(live, "none")
    assert len(rows) > 30
    assert {name: how for name, how in rows.items() if how != "done"} == {}


@pytest.mark.parametrize("profile", ["engine", "loader", "caller"])
def test_nothing_forbidden_is_done_in_a_sandbox(live, profile):
    if not CONFINED:
        return
    rows = tried(live, profile)
    assert len(rows) > 90
    assert {name: how for name, how in rows.items() if how not in REFUSED and how != OF_THE_IMAGE.get(name)} == {}


def test_the_broker_reaches_no_other_process(live):
    if not CONFINED:
        return
    rows = tried(live, "broker")
    assert len(rows) > 20
    assert {name: how for name, how in rows.items() if how not in ("EPERM", "ENOSYS")} == {}


def test_a_helper_that_was_started_says_what_it_is(live):
    """The process itself, as the kernel sees it."""
    for pid, filters in zip(live[0][:2], (1, 2)):
        status = dict(re.findall(r"^(\w+):\s+(.*)$", open(f"/proc/{pid}/status").read(), re.M))
        if CONFINED:
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and int(status["Seccomp_filters"]) >= filters
    assert int(open(f"/proc/{live[0][1]}/oom_score_adj").read()) >= 500

"""The packages in /debs on a booted system, in this order: installed, used by three users, upgraded, purged."""

import collections
import itertools
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import threading

import pytest

from machine import CHAT, SOCKET, Connection, ask, model, run, show, until

DEBS = pathlib.Path("/debs")
UPPER = pathlib.Path("/changes")  # what was written since boot, as the container's boot script shows it
# Diaries of the package manager and of the system, which are not the package's to clean.
DIARIES = re.compile(r"/(var/(log|cache|backups|lib/(PackageKit|apt|dpkg|systemd|man-db|polkit-1|private|ucf))|root|tests|out|tmp|run)(/|$)"
                     r"|/etc/((passwd|shadow|group|gshadow|subuid|subgid)-?|\.pwd\.lock|\.updated)$|/(etc|var)/\.updated$|\.cache$|/home/")
State = collections.namedtuple("State", "folders changes users groups")


def apt(*args):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none"}
    ran = subprocess.run(["apt-get", "--yes", "-o", "Dpkg::Use-Pty=0", *args], capture_output=True, text=True, timeout=120,
                         env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def state():
    folders = {line for line in run("find", "/", "-xdev", "-type", "d").splitlines()}
    changes = {line for line in run("find", str(UPPER), "-mindepth", "1", "-printf", "/%P %y\n").splitlines()}
    names = [{line.partition(":")[0] for line in run("getent", table).splitlines()} for table in ("passwd", "group")]
    return State(folders, changes, *names)


@pytest.fixture(scope="session")
def before():
    # Containers and images for building forbid packages to start services.
    pathlib.Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    for name in ("member", "stranger"):
        run("useradd", "--create-home", name)
    run("systemctl", "start", "dbus.socket", "dbus.service")
    return state()


def installed(*patterns):
    lines = run("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n").splitlines()
    return [line.split()[1] for line in lines if line.startswith("ii") and re.match("deepseekd|dsctl", line.split()[1])]


def test_apt_installs_all_of_them(before):
    assert not installed(), "this machine has them already: what they leave behind cannot be told"
    apt("install", *map(str, sorted(DEBS.glob("*.deb"))))
    assert len(installed()) == len(list(DEBS.glob("*.deb")))


def test_units_are_enabled_as_the_preset_says_and_only_the_socket_runs():
    preset = dict(reversed(line.split()) for line in pathlib.Path("/usr/lib/systemd/system-preset/90-deepseekd.preset").read_text()
                  .splitlines() if re.match("enable|disable", line))
    units = {pathlib.Path(line).name for line in run("dpkg", "-L", "deepseekd").splitlines() if "/lib/systemd/system/" in line}
    assert {"deepseekd.socket", "deepseekd.service"} <= units
    for unit in units:
        state_of = subprocess.run(["systemctl", "is-enabled", unit], capture_output=True, text=True).stdout.strip()
        assert state_of in ("static", "indirect", "alias", {"enable": "enabled", "disable": "disabled"}[preset.get(unit, "disable")]), unit
    assert show("ActiveState", "deepseekd.socket") == "active"
    assert show("ActiveState") == "inactive"


def test_the_first_request_starts_the_daemon_and_is_answered():
    assert "632" in ask("What is 347+285?")
    assert show("ActiveState") == "active"


def test_every_plugin_of_the_packages_passed_its_vectors():
    plugins = json.loads(run("dsctl", "--json", "plugins"))["plugins"]
    on_disk = {pathlib.Path(line).stem for name in installed() for line in run("dpkg", "-L", name).splitlines()
               if "/deepseekd/plugins/" in line}
    assert {p["name"] for p in plugins} == on_disk and len(on_disk) >= 7
    assert all(p["state"] == "ok" for p in plugins)


def test_a_member_of_the_group_may_ask():
    run("usermod", "--append", "--groups", pathlib.Path(SOCKET).group(), "member")
    assert "632" in run("dsctl", "run", "What is 347+285?", user="member")
    assert "tiny-r1" in run("dsctl", "ls", user="member")


def test_a_stranger_is_told_that_he_may_not():
    ran = subprocess.run(["runuser", "-u", "stranger", "--", "dsctl", "run", "Hi"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 5 and ran.stdout == ""
    assert SOCKET in ran.stderr and ran.stderr.count("\n") == 1


def test_completion_and_manual_are_in_their_places():
    script = ". /usr/share/bash-completion/completions/dsctl; COMP_LINE='dsctl load t'; COMP_POINT=12; _dsctl; echo ${COMPREPLY[@]}"
    assert run("bash", "-c", script, user="member") == "tiny-r1\n"
    pages = "".join(run("dpkg", "-L", name) for name in installed())
    assert {"man1/dsctl.1.gz", "man5/deepseekd.yaml.5.gz", "man7/deepseekd-plugin.7.gz"} <= \
        {line.partition("/man/")[2] for line in pages.splitlines()}


def test_a_model_that_a_package_takes_or_brings_is_there_at_once():
    names = lambda: {m["id"] for m in json.loads(run("dsctl", "--json", "ls"))["data"]}
    pid = show("MainPID")
    apt("remove", "deepseekd-model-tiny-r1")
    until("the model to go", lambda: "tiny-r1" not in names())
    apt("install", *map(str, DEBS.glob("deepseekd-model-tiny-r1_*.deb")))
    until("the model to come", lambda: "tiny-r1" in names())
    assert show("MainPID") == pid
    assert "632" in ask("What is 347+285?")


class Stream(threading.Thread):
    """One long answer; .lines is what came of it. Begun once the first token is there."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.begun = threading.Event()

    def run(self):
        connection = Connection()
        connection.request("POST", CHAT, json.dumps({"messages": [{"role": "user", "content": "What is 347+285?"}], "stream": True}),
                           {"Content-Type": "application/json"})
        for line in connection.getresponse():
            self.lines.append(line)
            self.begun.set()

    def ended_clearly(self):
        return any(b"[DONE]" in line or b'"error"' in line for line in self.lines)


def newer(folder):
    """All packages but the model, with a version that is later."""
    for deb in DEBS.glob("*.deb"):
        if "-model-" in deb.name:
            continue
        tree = folder / deb.stem
        run("dpkg-deb", "--raw-extract", str(deb), str(tree))
        control = (tree / "DEBIAN/control").read_text()
        version = re.search("^Version: (.*)$", control, re.M)[1]
        (tree / "DEBIAN/control").write_text(control.replace(f"Version: {version}\n", f"Version: {version}+next\n")
                                             .replace(f"(= {version})", f"(= {version}+next)"))
        run("dpkg-deb", "-Znone", "--build", str(tree), str(folder))
    return [str(path) for path in folder.glob("*.deb")]


def test_an_upgrade_refuses_nobody_and_reads_no_weights_again(tmp_path):
    debs = newer(tmp_path)
    ask("Hi")
    until("the image in the store", lambda: int(show("NFileDescriptorStore")) > 0)
    pid, loads = show("MainPID"), model()["loads"]
    os.utime("/usr/share/deepseekd/models/tiny-r1/model.safetensors", ns=(0, pathlib.Path(
        "/usr/share/deepseekd/models/tiny-r1/model.safetensors").stat().st_mtime_ns))
    stream, over, refused = Stream(), threading.Event(), []

    def knock():
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(SOCKET)
                except OSError as error:
                    refused.append(error)
            over.wait(0.01)

    knocking = threading.Thread(target=knock)
    knocking.start()
    stream.start()
    assert stream.begun.wait(60)
    apt("install", *debs)
    until("the new daemon", lambda: show("ActiveState") == "active" and show("MainPID") not in ("0", pid))
    assert "632" in ask("What is 347+285?")
    over.set()
    knocking.join()
    stream.join(60)
    assert not stream.is_alive() and stream.ended_clearly(), stream.lines[-2:]
    assert not refused
    assert pathlib.Path("/usr/share/deepseekd/models/tiny-r1/model.safetensors").stat().st_atime_ns == 0, f"read again; loads were {loads}"


def test_a_purge_leaves_nothing(before):
    ask("Hi")
    pathlib.Path("/etc/deepseekd/models.d/mine.yaml").write_text("name: mine\npath: /nowhere\n")
    apt("purge", *installed())
    assert not installed()
    after = state()
    left = [c for c in sorted(after.changes - before.changes) if not DIARIES.search(c.rpartition(" ")[0])
            and not (c.endswith(" d") and c.rpartition(" ")[0] in before.folders)
            and not c.endswith(" c")]  # what the system's own files were replaced by
    assert left == []
    assert [p for p in pathlib.Path("/run").rglob("*deepseekd*")] == []
    assert (after.users, after.groups) == (before.users, before.groups)
    assert "deepseekd" not in run("systemctl", "list-units", "--all", "--no-legend", "deepseekd*")
    assert subprocess.run(["pgrep", "-f", "^/usr/(sbin/deepseekd|libexec/deepseekd)"]).returncode == 1

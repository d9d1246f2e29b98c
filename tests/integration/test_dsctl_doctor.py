"""dsctl doctor, dsctl top and dsctl log: each thing that can be wrong is made wrong, and must be named with its fix."""

import ctypes
import glob
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile

import pexpect
import pytest

from deepseekd import DSCTL, STAGE, Deepseekd, bundled
from fake_daemon import Answer, FakeDaemon
from null_daemon import NullDaemon

UNSHARE = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
can_unshare = subprocess.run([*UNSHARE, "unshare", "--mount", "true"], capture_output=True).returncode == 0
with_namespace = pytest.mark.skipif(not can_unshare, reason="a mount namespace may not be made here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534


def environment(**more):
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEEPSEEKD_DAEMON": str(STAGE / "sbin/deepseekd"), **more}


def doctor(path, *args, code=1, before=(), become=None, program=DSCTL, **more):
    """The findings, which must make dsctl end with @code."""
    ran = subprocess.run([*before, str(program), "--socket", str(path), "--json", "doctor", *args], capture_output=True, timeout=60,
                         text=True, env=environment(**more), preexec_fn=become)
    assert ran.returncode == code, ran.stdout + ran.stderr
    result = json.loads(ran.stdout)
    assert result["healthy"] == (code == 0) and all(set(f) == {"check", "state", "what", "fix"} for f in result["findings"])
    return result["findings"]


def found(findings, check, state, *words):
    """The one finding of the check that is in this state and has these words."""
    ones = [f for f in findings if f["check"] == check and f["state"] == state and all(w in f["what"] for w in words)]
    assert len(ones) == 1, [f for f in findings if f["check"] == check]
    assert state == "ok" or ones[0]["fix"], ones[0]
    return ones[0]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text("version: 1\n")
    return path


class Patient(FakeDaemon):
    """A daemon in good health, until a test says otherwise."""

    def __init__(self, folder, pid=None, **status):
        super().__init__(str(folder / "api.sock"))
        self.status = {"version": "1", "pid": pid or os.getpid(), "state": "running", "started_usec": 1, "default_model": "",
                       "requests": {"running": 0, "queued": 0}, "memory": {"limit": 1 << 40, "held": 0}, "models": [], **status}
        self.plugins = [{"name": "backend-cpu", "kind": "backend", "state": "ok"}]
        self.routes["GET", "/healthz"] = Answer(200, {"status": "ok"})
        self.routes["GET", "/admin/v1/status"] = lambda body: Answer(200, self.status)
        self.routes["GET", "/admin/v1/plugins"] = lambda body: Answer(200, {"plugins": self.plugins})


def model(path, name="m", state="ready", **more):
    return {"name": name, "path": str(path), "state": state, "reason": "", **more}


def test_a_healthy_daemon_is_healthy():
    with Deepseekd("tiny-r1") as daemon:
        findings = doctor(daemon.socket, "--config", str(daemon.config), code=0)
        assert {f["check"] for f in findings} == {"socket", "daemon", "unit", "config", "leftovers", "plugins", "models", "paths",
                                                  "memory", "kernel", "devices", "disk"}
        assert found(findings, "paths", "ok", "tiny-r1", "may be read") and found(findings, "memory", "ok", "that fits")
        assert [str(daemon.folder / "state") in f["what"] for f in findings if f["check"] == "disk"] == [True]
        out, _ = daemon.dsctl("doctor", "--config", str(daemon.config), environment=environment())
        assert all(re.match(r"ok    \w+ +\S|warn  \w+ +\S| {17}\S", line) for line in out.splitlines()), out


# The socket

def test_a_socket_that_is_not_there_is_named(tmp_path, config):
    findings = doctor(tmp_path / "api.sock", "--config", str(config))
    assert "systemctl start" in found(findings, "socket", "fail", "api.sock", "No such file")["fix"]
    found(findings, "daemon", "fail", "does not answer")


def test_a_directory_of_the_socket_that_is_missing_is_named(tmp_path, config):
    found(doctor(tmp_path / "a/b/api.sock", "--config", str(config)), "socket", "fail", f"{tmp_path}/a:", "No such file")


def test_a_file_that_is_no_socket_is_named(tmp_path, config):
    (tmp_path / "api.sock").write_text("")
    found(doctor(tmp_path / "api.sock", "--config", str(config)), "socket", "fail", "is not a socket")
    found(doctor(tmp_path / "api.sock/x", "--config", str(config)), "socket", "fail", "is not a directory")


def abandon(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))


def test_a_socket_that_a_daemon_left_behind_is_named(tmp_path, config):
    abandon(tmp_path / "api.sock")
    found(doctor(tmp_path / "api.sock", "--config", str(config)), "socket", "fail", "nobody listens")


def test_other_sockets_that_were_left_behind_are_named(tmp_path, config):
    (tmp_path / "deepseekd").mkdir()
    abandon(tmp_path / "metrics.sock")
    abandon(tmp_path / "deepseekd/api.sock")
    with Patient(tmp_path) as fake:
        findings = doctor(fake.path, "--config", str(config), code=0, XDG_RUNTIME_DIR=str(tmp_path))
    assert found(findings, "leftovers", "warn", f"{tmp_path}/metrics.sock")["fix"] == f"rm {tmp_path}/metrics.sock"
    found(findings, "leftovers", "warn", f"{tmp_path}/deepseekd/api.sock")


@pytest.fixture
def open_path():
    """A folder that everybody may pass through, which tmp_path is not."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dsd-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@as_root
def test_who_may_not_open_the_socket_is_told_which_group_may(open_path, config):
    mine = open_path / "dsctl"  # the stage may lie where nobody else may go
    shutil.copy(DSCTL, mine)
    with Patient(open_path) as fake:
        os.chmod(fake.path, 0o660)
        fix = found(doctor(fake.path, "--config", str(config), become=become_nobody, program=mine), "socket", "fail", "may not open it",
                    "mode 0660")["fix"]
        assert re.match(r"usermod -aG root \w+, then log in again", fix)
        os.chmod(fake.path, 0o600)
        fix = found(doctor(fake.path, "--config", str(config), become=become_nobody, program=mine), "socket", "fail", "mode 0600")["fix"]
        assert "listen.mode" in fix
    (open_path / "closed").mkdir(mode=0o700)
    with Patient(open_path / "closed") as fake:
        found(doctor(fake.path, "--config", str(config), become=become_nobody, program=mine), "socket", "fail", "may not pass through",
              f"{open_path}/closed", "mode 0700")


# The daemon, its unit, its configuration

def test_a_daemon_that_does_not_answer_properly_is_named(tmp_path, config):
    with Patient(tmp_path) as fake:
        fake.routes["GET", "/healthz"] = Answer(500, {"error": {"message": "out of order"}})
        found(doctor(fake.path, "--config", str(config)), "daemon", "fail", "out of order")


def test_who_may_not_ask_for_the_state_is_told_so_and_that_is_no_failure(tmp_path, config):
    with Patient(tmp_path) as fake:
        fake.routes["GET", "/admin/v1/status"] = Answer(403, {"error": {"message": "you are nobody"}})
        findings = doctor(fake.path, "--config", str(config), code=0)
    assert "as root" in found(findings, "daemon", "warn", "you are nobody")["fix"]


def with_systemctl(folder, text):
    (folder / "bin").mkdir()
    program = folder / "bin/systemctl"
    program.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


def test_a_unit_that_has_failed_is_named(tmp_path, config):
    path = with_systemctl(tmp_path, "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=oom-kill\nProtectHome=no")
    with Patient(tmp_path) as fake:
        findings = doctor(fake.path, "--config", str(config), **path)
    assert "reset-failed" in found(findings, "unit", "fail", "has failed: oom-kill")["fix"]


# The folder in the place of /run/deepseekd, so that the socket is the system's.
AS_SYSTEM = [*UNSHARE, "unshare", "--mount", "sh", "-c",
             'mount -t tmpfs run /run && mkdir /run/deepseekd && mount --bind "$0" /run/deepseekd && '
             'mount -t tmpfs home /home && mkdir -p /home/somebody/model && exec "$@"']


@with_namespace
def test_a_system_without_its_unit_is_named(tmp_path, config):
    path = with_systemctl(tmp_path, "LoadState=not-found\nActiveState=inactive\nSubState=dead")
    with Patient(tmp_path):
        findings = doctor("/run/deepseekd/api.sock", "--config", str(config), before=[*AS_SYSTEM, str(tmp_path)], **path)
    found(findings, "unit", "fail", "not loaded: not-found")


@with_namespace
def test_a_model_at_home_is_hidden_from_a_unit_that_protects_homes(tmp_path, config):
    path = with_systemctl(tmp_path, "LoadState=loaded\nActiveState=active\nSubState=running\nProtectHome=yes")
    with Patient(tmp_path, models=[model("/home/somebody/model")]):
        findings = doctor("/run/deepseekd/api.sock", "--config", str(config), before=[*AS_SYSTEM, str(tmp_path)], **path)
    assert "ProtectHome" in found(findings, "paths", "fail", "/home/somebody/model is hidden from the service")["fix"]


def test_a_configuration_that_is_wrong_is_named_with_its_line(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nlimits:\n  queeu: 3\n")
    with Patient(tmp_path) as fake:
        findings = doctor(fake.path, "--config", str(bad))
        found(findings, "config", "fail", f"{bad}:3:", "queeu", "did you mean limits.queue")
        findings = doctor(fake.path, DEEPSEEKD_DAEMON="/nowhere/deepseekd")
        found(findings, "config", "fail", "/nowhere/deepseekd", "No such file")


# Plugins and models

def test_a_plugin_that_was_refused_is_named_with_the_reason(tmp_path, config):
    with Patient(tmp_path) as fake:
        fake.plugins.append({"name": "mine", "kind": "sampler", "state": "refused", "reason": "vector 3 of pick"})
        found(doctor(fake.path, "--config", str(config)), "plugins", "fail", "mine is refused: vector 3 of pick")
        fake.plugins = []
        found(doctor(fake.path, "--config", str(config)), "plugins", "fail", "there is none")


def test_a_failed_model_is_named_with_the_reason(tmp_path, config):
    with Patient(tmp_path, models=[model(tmp_path, state="failed", reason="no tensor\nblk.3")]) as fake:
        findings = doctor(fake.path, "--config", str(config))
    assert "dsctl load m" in found(findings, "models", "fail", "m has failed: no tensor?blk.3")["fix"]


def test_what_a_model_asks_for_and_does_not_get_is_a_warning(tmp_path, config):
    with Patient(tmp_path, models=[model(tmp_path, warning="the context is 7, not 9")]) as fake:
        found(doctor(fake.path, "--config", str(config), code=0), "models", "warn", "m: the context is 7, not 9")


def test_no_model_at_all_is_worth_a_warning(tmp_path, config):
    with Patient(tmp_path) as fake:
        found(doctor(fake.path, "--config", str(config), code=0), "models", "warn", "none is registered")


def test_a_path_that_does_not_exist_is_named_at_the_part_that_is_missing(tmp_path, config):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/model.safetensors").symlink_to(tmp_path / "gone")
    with Patient(tmp_path, models=[model(tmp_path / "there/not/m.gguf"), model(tmp_path / "n.gguf", "n"),
                                   model(tmp_path / "dir", "o")]) as fake:
        findings = doctor(fake.path, "--config", str(config))
    found(findings, "paths", "fail", "model m:", f"{tmp_path}/there: No such file")
    found(findings, "paths", "fail", "model n:", f"{tmp_path}/n.gguf: No such file")
    found(findings, "paths", "fail", "model o:", "dir/model.safetensors: No such file")


@as_root
def test_a_directory_that_the_daemons_user_may_not_pass_through_is_named(open_path, config):
    closed = open_path / "closed"
    (closed / "m").mkdir(parents=True)
    (closed / "m/model.safetensors").write_text("")
    (open_path / "linked").mkdir()
    (open_path / "linked/model.safetensors").symlink_to(closed / "m/model.safetensors")
    (open_path / "private").mkdir()
    (open_path / "private/config.json").write_text("")
    (open_path / "private/config.json").chmod(0o600)
    (open_path / "secret.gguf").write_text("")
    (open_path / "secret.gguf").chmod(0o640)
    closed.chmod(0o700)
    daemon = subprocess.Popen(["sleep", "60"], preexec_fn=become_nobody)
    models = [model(closed / "m"), model(open_path / "linked", "linked"), model(open_path / "private", "private"),
              model(open_path / "secret.gguf", "secret")]
    try:
        with Patient(open_path, pid=daemon.pid, models=models) as fake:
            findings = doctor(fake.path, "--config", str(config))
    finally:
        daemon.kill()
        daemon.wait()
    fix = found(findings, "paths", "fail", "model m:", f"may not pass through {closed} (owner root, mode 0700)")["fix"]
    assert re.match(rf"setfacl -m u:\w+:x {closed}", fix)
    found(findings, "paths", "fail", "model linked:", f"may not pass through {closed} ")
    found(findings, "paths", "fail", "model private:", f"may not read {open_path}/private/config.json (mode 0600)")
    found(findings, "paths", "fail", "model secret:", f"may not read {open_path}/secret.gguf (mode 0640)")


def test_a_model_that_memory_cannot_hold_is_named_with_numbers(tmp_path, config):
    here = bundled("tiny-r1")["path"]
    with Patient(tmp_path, models=[model(here, state="absent")], memory={"limit": 2 << 20, "held": 0}) as fake:
        findings = doctor(fake.path, "--config", str(config), code=0)
        assert "limits.memory" in found(findings, "memory", "warn", "MiB without its cache", "2.0 MiB of limits.memory are left")["fix"]
        fake.status["memory"] = {"limit": 1 << 40, "held": 1 << 40}
        found(doctor(fake.path, "--config", str(config), code=0), "memory", "warn", "0 B of limits.memory are left")
        need = float(re.search(r"needs ([\d.]+) MiB", str(findings))[1]) * (1 << 20)
        fake.status["memory"] = {"limit": int(need + (1 << 17)), "held": 0}
        findings = doctor(fake.path, "--config", str(config), code=0)
        assert "context" in found(findings, "memory", "warn", "not with a cache for its whole context")["fix"]


def test_a_model_whose_files_are_broken_is_named(tmp_path, config):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\xff" * 60)
    with Patient(tmp_path, models=[model(tmp_path / "m.gguf", state="absent")]) as fake:
        found(doctor(fake.path, "--config", str(config)), "memory", "fail", "model m cannot be read")


# The machine

def refuse_calls(*numbers):
    """A seccomp filter under which these system calls fail with ENOSYS. x86-64 and arm64 have one table of calls each."""
    def install():
        code = [(0x20, 0, 0, 0)]  # the number of the call
        for n in numbers:
            code += [(0x15, 0, 1, n), (0x06, 0, 0, 0x00050000 | 38)]
        code.append((0x06, 0, 0, 0x7fff0000))
        raw = b"".join(struct.pack("HBBI", *c) for c in code)
        program = ctypes.create_string_buffer(raw, len(raw))
        head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
        libc = ctypes.CDLL(None)
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head) == 0
    return install


def test_a_kernel_that_lacks_something_is_named(tmp_path, config):
    memfd_create = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
    with Patient(tmp_path) as fake:
        findings = doctor(fake.path, "--config", str(config), become=refuse_calls(444, memfd_create))
    found(findings, "kernel", "fail", "memory cannot be sealed")
    found(findings, "kernel", "warn", "not confined by Landlock")


@with_namespace
def test_a_kernel_without_filters_is_named(tmp_path, config):
    hide = [*UNSHARE, "unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /proc/sys/kernel/seccomp/actions_avail && exec "$@"', "sh"]
    with Patient(tmp_path) as fake:
        findings = doctor(fake.path, "--config", str(config), code=0, before=hide)
    found(findings, "kernel", "warn", "not confined by seccomp")


def test_a_plugin_whose_device_is_missing_is_named(tmp_path, config):
    devices = glob.glob("/dev/dri/renderD*") + glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/kfd")
    with Patient(tmp_path) as fake:
        fake.plugins.append({"name": "backend-gpu", "kind": "backend", "state": "ok"})
        if devices: # of those of this machine the one who runs this may open some or all
            findings = doctor(fake.path, "--config", str(config), code=0 if all(os.access(p, 6) for p in devices) else 1)
            assert [f["what"].split()[0] for f in findings if f["check"] == "devices"] == devices
        else:
            found(doctor(fake.path, "--config", str(config)), "devices", "fail", "there is none")


@with_namespace
def test_a_disk_that_is_full_is_named(tmp_path, config):
    (tmp_path / "state").mkdir()
    pid = tmp_path / "pid"
    small = [*UNSHARE, "unshare", "--mount", "sh", "-c",  # with a process that stands for the daemon, at work on that disk
             'mount -t tmpfs -o size=64k small "$0" && { sh -c \'cd "$0" && echo $$ >../pid.new && mv ../pid.new ../pid && exec sleep 60\' "$0" '
             '>/dev/null 2>&1 & until [ -s "$0/../pid" ]; do sleep 0.01; done; "$@"; ended=$?; kill $!; exit $ended; }', str(tmp_path / "state")]
    with Patient(tmp_path) as fake:
        fake.routes["GET", "/admin/v1/status"] = lambda body: Answer(200, {**fake.status, "pid": int(pid.read_text())})
        findings = doctor(fake.path, "--config", str(config), code=0, before=small)
    found(findings, "disk", "warn", f"{tmp_path}/state: 64.0 KiB left")


# top

def test_top_shows_models_as_plain_lines_where_there_is_no_terminal():
    with NullDaemon() as daemon:
        daemon.load("null")
        out, _ = daemon.dsctl("top", "-n", "2", "-d", "0.05")
        lines = out.splitlines()
        assert len(lines) == 6 and "\033" not in out
        assert re.match(r"\d\d:\d\d:\d\d  deepseekd \S+: running, 0 running, 0 queued, memory \S+ \S+ of \S+ \S+$", lines[0])
        assert lines[1].split() == "MODEL STATE RUNNING WAITING IN TOK/S OUT TOK/S KV MEMORY".split()
        assert lines[2].split()[:6] == ["null", "ready", "0", "0", "0.0", "0.0"] and lines[2].endswith("4.0 KiB")
        assert daemon.dsctl("top", "-n", "0") == ("", "")
        assert "from 0.01" in daemon.dsctl("top", "-d", "0", code=2)[1]


def test_top_as_json_is_one_look_with_rates(tmp_path):
    looks = iter([{"prompt": 10, "cached": 0, "completion": 5}, {"prompt": 40, "cached": 0, "completion": 65}])
    with Patient(tmp_path) as fake:
        def status(body):
            return Answer(200, {**fake.status, "models": [model("/m", running=2, waiting=1, tokens=next(looks), kv_tokens=100,
                                                                kv_tokens_used=30, image_size=7)]})
        fake.routes["GET", "/admin/v1/status"] = status
        ran = subprocess.run([DSCTL, "--socket", fake.path, "--json", "top", "-d", "0.1"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and ran.stdout.count("\n") == 1
    m = json.loads(ran.stdout)["models"][0]
    assert (m["running"], m["waiting"], m["kv_tokens_used"], m["kv_tokens"], m["image_size"]) == (2, 1, 30, 100, 7)
    # How long the looks were apart is not known, but it was the same for both.
    assert m["completion_tokens_per_second"] == pytest.approx(2 * m["prompt_tokens_per_second"]) and m["prompt_tokens_per_second"] > 0


def test_top_redraws_a_terminal_and_ctrl_c_is_the_way_out():
    with NullDaemon() as daemon:
        child = pexpect.spawn(DSCTL, ["--socket", daemon.socket, "top", "-d", "0.05"], timeout=30, encoding="utf-8",
                              env=environment(TERM="xterm"))
        for _ in range(3):
            child.expect_exact("\033[H\033[J")
            child.expect("null +absent")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


def test_top_needs_a_daemon_and_rights(tmp_path):
    ran = subprocess.run([DSCTL, "--socket", str(tmp_path / "none"), "top"], capture_output=True, text=True)
    assert ran.returncode == 3 and "not running" in ran.stderr


# log

@with_namespace
def test_log_gives_journalctl_the_right_matches(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/journalctl").write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    (tmp_path / "bin/journalctl").chmod(0o755)
    make = [*UNSHARE, "unshare", "--mount", "sh", "-c", 'mount -t tmpfs run /run && mkdir -p /run/log/journal/0 && exec "$@"', "sh"]

    def log(*args):
        ran = subprocess.run([*make, DSCTL, *args], capture_output=True, text=True,
                             env=environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}"))
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split("\n")[:-1]

    assert log("log") == ["--unit", "deepseekd.service"]
    assert log("log", "tiny r1") == ["--unit", "deepseekd.service", "DEEPSEEKD_MODEL=tiny r1"]
    assert log("log", "-f", "-n", "7", "-x", "--request", "req-1", "m") == [
        "--unit", "deepseekd.service", "--follow", "--catalog", "--lines=7", "DEEPSEEKD_MODEL=m", "DEEPSEEKD_REQUEST=req-1"]
    assert log("--json", "log", "--user") == ["--user-unit", "deepseekd.service", "--output=json"]


@with_namespace
def test_log_says_where_there_is_no_journal(tmp_path):
    hide = [*UNSHARE, "unshare", "--mount", "sh", "-c", 'mount -t tmpfs run /run && mount -t tmpfs log /var/log && exec "$@"', "sh"]
    ran = subprocess.run([*hide, DSCTL, "log"], capture_output=True, text=True)
    assert ran.returncode == 1 and "there is no journal on this machine" in ran.stderr
    without = [*hide[:-2], 'mount -t tmpfs run /run && mkdir -p /run/log/journal/0 && exec env PATH=/nowhere "$@"', "sh"]
    ran = subprocess.run([*without, DSCTL, "log"], capture_output=True, text=True)
    assert ran.returncode == 1 and "journalctl cannot be run: No such file" in ran.stderr


def test_log_refuses_a_name_that_no_model_has():
    ran = subprocess.run([DSCTL, "log", "m" * 200], capture_output=True, text=True)
    assert ran.returncode == 2 and "so long a name" in ran.stderr

"""The service under a real systemd: activation, restart, crash, reload, stop, and what it may."""

import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import time

from machine import (CHAT, MODEL, Connection, Reads, ask, first_token, kept, main_pid, model, request, run, service_uid, show, until)

ETC = pathlib.Path("/etc/deepseekd")
GROUP = pathlib.Path("/sys/fs/cgroup/system.slice/deepseekd.service")


def loaded():
    ask()
    until("the image in the store", lambda: kept() == 2)
    return model()


def stop():
    run("systemctl", "stop", "deepseekd.service")
    until("the end", lambda: show("ActiveState") == "inactive")


def test_the_very_first_request_starts_the_service():
    reads = Reads(MODEL)
    assert show("ActiveState") == "inactive" and show("ActiveState", "deepseekd.socket") == "active"
    assert "632" in ask()
    assert show("ActiveState") == "active" and show("SubState") == "running"
    assert reads.happened(), "then the tests below prove nothing"


def test_metrics_are_for_root_alone_until_somebody_else_is_named():
    assert show("UnitFileState", "deepseekd-metrics.socket") == "disabled"
    stop()  # systemd adds no socket to a service that runs
    run("systemctl", "start", "deepseekd-metrics.socket")
    scrape = ("curl", "-sS", "--fail", "--unix-socket", "/run/deepseekd/metrics.sock", "http://localhost/metrics")
    assert run(*scrape).endswith("# EOF\n") and show("ActiveState") == "active"
    run("useradd", "--system", "--no-create-home", "--groups", "deepseekd", "curious")
    assert subprocess.run(["runuser", "-u", "curious", "--", *scrape], capture_output=True).returncode == 7  # it may not connect
    run("systemctl", "stop", "deepseekd-metrics.socket", "deepseekd.service")
    assert "632" in ask()


def test_it_runs_as_a_user_of_its_own_without_capabilities():
    loaded()
    for pid in (main_pid(), model()["engine_pid"]):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\s+(\d+)", status, re.M)[1] == str(service_uid())
        assert re.search(r"^CapEff:\s+(\w+)", status, re.M)[1].strip("0") == ""
        assert re.search(r"^NoNewPrivs:\s+1", status, re.M) and re.search(r"^Seccomp:\s+2", status, re.M)
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/1/ns/net")


def test_each_helper_has_a_control_group_of_its_own():
    engine = loaded()["engine_pid"]
    group = {pid: pathlib.Path(f"/proc/{pid}/cgroup").read_text().rpartition("deepseekd.service")[2].strip()
             for pid in (main_pid(), engine)}
    assert group[main_pid()] == "/broker" and re.fullmatch(rf"/[\w-]+-{engine}", group[engine]), group


def test_a_call_on_the_bus_starts_the_service():
    stop()
    assert json.loads(run("busctl", "--json=short", "get-property", "org.deepseekd1", "/org/deepseekd1", "org.deepseekd1.Manager",
                          "Version"))["data"]
    until("its start", lambda: show("ActiveState") == "active")


def test_only_members_of_the_group_may_connect():
    run("useradd", "--system", "--no-create-home", "stranger")
    run("useradd", "--system", "--no-create-home", "--groups", "deepseekd", "member")
    run("dsctl", "ls", user="member")
    assert subprocess.run(["runuser", "-u", "stranger", "--", "dsctl", "ls"], capture_output=True).returncode != 0


def test_a_restart_does_not_read_the_weights_again():
    before = loaded()
    pid = main_pid()
    reads = Reads(MODEL)
    run("systemctl", "restart", "deepseekd.service")
    assert "632" in ask()
    assert main_pid() != pid and model()["loads"] == before["loads"] == 1 and kept() == 2
    assert not reads.happened()


def test_a_killed_daemon_is_back_without_reading_the_weights_again():
    before = loaded()
    pid = main_pid()
    reads = Reads(MODEL)
    os.kill(pid, signal.SIGKILL)
    assert "632" in ask()
    assert main_pid() not in (0, pid) and model()["loads"] == before["loads"]
    assert not reads.happened()


def test_a_killed_engine_is_back_and_the_image_is_the_same():
    before = loaded()
    os.kill(before["engine_pid"], signal.SIGKILL)
    until("another engine", lambda: model()["engine_pid"] not in (0, before["engine_pid"]))
    assert "632" in ask() and model()["loads"] == before["loads"]


def loaders():
    return list(GROUP.glob("ds-loader-*"))


def test_a_killed_loader_fails_that_load_alone_and_the_next_one_works():
    pid, engine = main_pid(), loaded()["engine_pid"]

    def caught():
        request("POST", "/admin/v1/models/tiny-r1/unload", {})
        request("POST", "/admin/v1/models/tiny-r1/load", {"wait": False})
        end = time.monotonic() + 1
        while not loaders() and time.monotonic() < end:
            pass
        for group in loaders():
            with contextlib.suppress(OSError):  # a load is short: it may be over
                os.kill(int(group.name.rpartition("-")[2]), signal.SIGKILL)
        until("the load to end", lambda: model()["state"] in ("ready", "failed"))
        return model()["state"] == "failed"
    until("a load that failed", caught)
    assert "killed by signal 9" in model()["reason"]
    assert request("POST", "/admin/v1/models/tiny-r1/load", {})[0] == 200
    assert "632" in ask() and main_pid() == pid and model()["engine_pid"] != engine


def test_the_first_token_after_a_restart_comes_soon():
    loaded()
    times = []
    for _ in range(7):
        pid = main_pid()
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        first_token()
        times.append(time.monotonic() - begin)
        assert main_pid() != pid
        run("systemctl", "reset-failed", "deepseekd.service")  # else systemd would count these as a loop
    print(f"restart to first token: p50 {statistics.median(times) * 1000:.0f} ms, all {[round(t * 1000) for t in times]}")


def test_unloading_takes_the_image_from_systemd():
    loaded()
    assert request("POST", "/admin/v1/models/tiny-r1/unload", {})[0] == 200
    until("an empty store", lambda: kept() == 0)


def test_a_reload_takes_a_changed_file_and_drops_no_stream():
    loaded()
    connection = Connection()
    connection.request("POST", CHAT, json.dumps({"messages": [{"role": "user", "content": "What is 347+285?"}], "stream": True}),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    pid = main_pid()
    (ETC / "models.d").mkdir(parents=True, exist_ok=True)
    (ETC / "models.d/second.yaml").write_text(f"name: second\npath: {MODEL.parent}\n")
    run("systemctl", "reload", "deepseekd.service")
    until("the second model", lambda: any(m["id"] == "second" for m in request("GET", "/v1/models")[1]["data"]))
    assert b"data: [DONE]" in response.read() and main_pid() == pid
    (ETC / "models.d/second.yaml").write_text("name: second\nnonsense: 1\n")
    run("systemctl", "reload", "deepseekd.service")
    until("the error in the status", lambda: "has errors" in show("StatusText"))
    assert any(m["id"] == "second" for m in request("GET", "/v1/models")[1]["data"])
    (ETC / "models.d/second.yaml").unlink()
    run("systemctl", "reload", "deepseekd.service")
    until("the error to be gone", lambda: "has errors" not in show("StatusText"))


def test_systemd_knows_what_it_does():
    loaded()
    until("the status", lambda: "tiny-r1 ready" in show("StatusText") and "0 requests running" in show("StatusText"))
    assert show("WatchdogUSec") == "30s"


def test_a_hanging_daemon_is_ended_by_the_watchdog_and_starts_again():
    drop_in = pathlib.Path("/run/systemd/system/deepseekd.service.d/quick.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "deepseekd.service")
    loads = loaded()["loads"]
    pid = main_pid()
    os.kill(pid, signal.SIGSTOP)
    until("another daemon", lambda: main_pid() not in (0, pid))
    assert "632" in ask() and model()["loads"] == loads
    assert "watchdog" in run("journalctl", "-u", "deepseekd", "--no-pager")
    drop_in.unlink()
    run("systemctl", "daemon-reload")


def test_stop_ends_everything_and_the_next_request_starts_it_again():
    loaded()
    engine = model()["engine_pid"]
    stop()
    assert not pathlib.Path(f"/proc/{engine}").exists() and kept() == 0 and show("Result") == "success"
    assert "632" in ask() and model()["loads"] == 1


def test_idle_exit_lets_the_next_client_start_it():
    (ETC / "conf.d").mkdir(parents=True, exist_ok=True)
    (ETC / "conf.d/idle.yaml").write_text("version: 1\nidle_exit: 1s\n")
    run("systemctl", "restart", "deepseekd.service")
    request("POST", "/admin/v1/models/tiny-r1/unload", {})
    until("its end", lambda: show("ActiveState") == "inactive")
    assert show("Result") == "success"
    (ETC / "conf.d/idle.yaml").unlink()
    assert "632" in ask()


def test_the_units_are_clean_and_closed():
    units = ["deepseekd.service", "deepseekd.socket"]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert verified.returncode == 0 and not [line for line in verified.stderr.splitlines() if "deepseekd" in line], verified.stderr
    run("systemd-analyze", "security", "--threshold=15", "deepseekd.service")


def test_nothing_of_it_failed():
    assert "deepseekd" not in run("systemctl", "--failed", "--no-legend", "--plain")

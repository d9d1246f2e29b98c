"""The life of models and of the daemon: loading, failing, reloading the configuration, starting and stopping."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from deepseekd import SEES_INSIDE, STAGE, until
from null_daemon import CHAT, HELPERS, NullDaemon, chat

DEEPSEEKD = str(STAGE / "sbin/deepseekd")
NULL = {"name": "null", "path": "null"}


def wish(daemon, **wishes):
    daemon.write_model(NULL, **wishes)


def test_a_model_is_loaded_by_the_first_request():
    with NullDaemon() as daemon:
        assert daemon.model("null")["state"] == "absent"
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200
        model = daemon.model("null")
        assert (model["state"], model["loads"], model["engine_starts"]) == ("ready", 1, 1)
        assert (model["vocab"], model["architecture"], model["context"], model["kv_tokens"]) == (16, "null", 1024, 4096)
        assert model["image_size"] == 4096 and model["progress"] == {"done": 4096, "total": 4096}


def test_many_requests_load_it_once():
    with NullDaemon() as daemon:
        wish(daemon, delay_ms=300)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(daemon.post(CHAT, chat("tokens=1"))[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 8 and daemon.model("null")["loads"] == 1


def test_load_waits_unless_told_not_to():
    with NullDaemon() as daemon:
        wish(daemon, delay_ms=500)
        status, model = daemon.post("/admin/v1/models/null/load", {"wait": False})
        assert status == 202 and model["state"] == "loading"
        seen = until("progress", lambda: daemon.model("null")["progress"]["done"])
        assert 0 < seen <= 4096
        status, model = daemon.post("/admin/v1/models/null/load")
        assert status == 200 and model["state"] == "ready"
        assert daemon.load("null")["loads"] == 1
        assert daemon.post("/admin/v1/models/null/load", {"wait": 1})[0] == 400
        assert daemon.post("/admin/v1/models/none/load", {})[0] == 404


def test_unload_waits_for_what_runs_and_the_next_request_loads_again():
    with NullDaemon() as daemon:
        daemon.load("null")
        done = []
        asker = threading.Thread(target=lambda: done.append(daemon.post(CHAT, chat("tokens=300 delay_us=1000"))[0]))
        asker.start()
        daemon.wait_running(1)
        status, model = daemon.post("/admin/v1/models/null/unload", {})
        asker.join()
        assert status == 200 and model["state"] == "absent" and done == [200]
        assert model["image_size"] == model["engine_pid"] == 0
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200
        assert daemon.model("null")["loads"] == 2


def test_unload_stops_a_load():
    with NullDaemon() as daemon:
        wish(daemon, delay_ms=60000)
        daemon.post("/admin/v1/models/null/load", {"wait": False})
        assert daemon.post("/admin/v1/models/null/unload", {})[1]["state"] == "absent"


def test_a_model_has_its_aliases_and_the_default_is_found():
    with NullDaemon({**NULL, "aliases": ["nought"]}) as daemon:
        for name in ("null", "nought", None):
            assert daemon.post(CHAT, chat("tokens=1", model=name))[1]["model"] == "null"
        assert daemon.get("/v1/models/nought")[0] == 200


def test_preload_loads_at_start():
    with NullDaemon({**NULL, "preload": True}) as daemon:
        until("ready", lambda: daemon.model("null")["state"] == "ready")


def failure(daemon):
    status, body = daemon.post("/admin/v1/models/null/load", {})
    assert status == 503 and body["error"]["code"] == "model_failed", body
    model = daemon.model("null")
    assert model["state"] == "failed" and model["reason"] in body["error"]["message"]
    return model["reason"]


def test_what_the_loader_says_is_the_reason():
    with NullDaemon() as daemon:
        wish(daemon, fail="model.safetensors: the header is longer than the file")
        assert failure(daemon) == "model.safetensors: the header is longer than the file"
        status, body = daemon.post(CHAT, chat("x"))
        assert status == 503 and "longer than the file" in body["error"]["message"]
        wish(daemon)
        assert daemon.load("null")["state"] == "ready"


def test_a_loader_that_ends_early_or_breaks_the_rules_fails_the_model():
    with NullDaemon() as daemon:
        wish(daemon, exit=3)
        assert "exited with 3" in failure(daemon)
        wish(daemon, exit=0)
        failure(daemon)
        wish(daemon, breach=True)
        assert "does not belong here" in failure(daemon)
        for files in (["elsewhere.safetensors"], ["/etc/passwd"], [7], [None]):
            wish(daemon, files=files)
            assert "names a file that the model does not have" in failure(daemon)
        wish(daemon, files=["null.json"] * 200)
        assert "200 files" in failure(daemon)
        wish(daemon, files=["null.json"])
        assert daemon.load("null")["state"] == "ready"
        assert daemon.get("/healthz")[0] == 200


def loader_pid(daemon):
    children = open(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read().split()
    return next((int(pid) for pid in children if "ds-loader" in open(f"/proc/{pid}/cmdline").read()), None)


def test_a_helper_that_has_failed_and_lives_on_is_killed():
    """Its reason stands; nobody waits for it for longer than a few seconds."""
    with NullDaemon({**NULL, "dialect": "refused"}) as daemon:
        wish(daemon, fail="config.json: line 3", linger=True)
        assert failure(daemon) == "config.json: line 3"
        wish(daemon, linger=True)
        assert "did not exit" in failure(daemon)
        wish(daemon)
        assert failure(daemon) == "there is no such dialect"


def load_with_context(own, configured=0, **more):
    """What the answer to load is where 64 MiB may be taken, at 1 KiB a token of the cache; and the log."""
    model = {**NULL, "context": configured, **more}
    with NullDaemon(model, config={"limits": {"memory": "64MiB"}}) as daemon:
        daemon.write_model(model, context=own, kv=1024)
        status, answer = daemon.post("/admin/v1/models/null/load", {})
        return answer if status == 200 else answer["error"]["message"], daemon.log()


def test_without_a_configured_context_the_largest_that_fits_is_taken():
    model, _ = load_with_context(1000)
    assert (model["context"], model["context_limit"], model["kv_tokens"]) == (1000, 1000, 4000)
    model, log = load_with_context(131072)
    # 64 MiB less 8 KiB of weights and scratch hold 1023 pages of 16 tokens for each of 4 texts
    assert (model["context"], model["context_limit"], model["kv_tokens"]) == (16368, 131072, 4 * 16368)
    assert model["warning"] == "" and "context 16368 of 131072" in log
    refusal, _ = load_with_context(131072, parallel=32)
    assert "KV cache of 32 x 4096 tokens 128.0 MiB" in refusal and "limits.memory is 64.0 MiB" in refusal


def test_a_configured_context_fits_or_is_refused_and_is_never_cut_in_silence():
    assert load_with_context(131072, 16000)[0]["context"] == 16000
    assert "KV cache of 4 x 20000 tokens" in load_with_context(131072, 20000)[0]
    model, log = load_with_context(1024, 20000)
    assert model["context"] == 1024
    assert model["warning"] == "context: 20000 is more than the model's own limit, 1024 is used" and model["warning"] in log


def test_a_killed_loader_fails_the_model_and_the_next_load_works():
    with NullDaemon() as daemon:
        wish(daemon, delay_ms=60000)
        daemon.post("/admin/v1/models/null/load", {"wait": False})
        os.kill(until("a loader", lambda: loader_pid(daemon)), signal.SIGKILL)
        until("failed", lambda: daemon.model("null")["state"] == "failed")
        assert "killed by signal 9" in daemon.model("null")["reason"]
        wish(daemon)
        assert daemon.load("null")["state"] == "ready"


def test_a_model_that_needs_too_much_memory_is_refused_with_numbers():
    with NullDaemon(config={"limits": {"memory": "64MiB"}}) as daemon:
        wish(daemon, kv=1 << 20)
        reason = failure(daemon)
        assert reason.endswith("it needs 4.0 GiB of memory (weights 4.0 KiB, KV cache of 4 x 1024 tokens 4.0 GiB, scratch 4.0 KiB); "
                               "limits.memory is 64.0 MiB, of which other models hold 0 B")
        assert daemon.model("null")["loads"] == 0  # before a byte of it was read
        wish(daemon, weights=1 << 62, scratch=1 << 62)
        failure(daemon)
        wish(daemon, scratch=1 << 40)
        assert "1.0 TiB" in failure(daemon)
        wish(daemon)
        assert daemon.load("null")["state"] == "ready"


def test_a_path_that_is_not_there_or_no_file_is_the_reason():
    with NullDaemon() as daemon:
        write_only(daemon, {**NULL, "path": "nowhere"})
        os.mkfifo(daemon.folder / "models.d/fifo.safetensors")
        write_only(daemon, {"name": "fifo", "path": "fifo.safetensors"})
        (daemon.folder / "models.d/empty").mkdir()
        write_only(daemon, {"name": "empty", "path": "empty"})
        daemon.reload()
        until("three models", lambda: len(daemon.status()["models"]) == 3)
        for name, words in (("null", "No such file"), ("fifo", "not a regular file"), ("empty", "no *.safetensors")):
            status, body = daemon.post(f"/admin/v1/models/{name}/load", {})
            assert status == 503 and words in body["error"]["message"], body


def test_a_reason_that_names_a_file_in_no_known_letters_is_still_told():
    with NullDaemon() as daemon:
        os.mkfifo(bytes(daemon.folder / "models.d/null") + b"/\xff.json")
        assert daemon.post("/admin/v1/models/null/load", {})[0] == 503
        assert daemon.model("null")["reason"].endswith("?.json: not a regular file")


def write_only(daemon, model):
    (daemon.folder / f"models.d/{model['name']}.yaml").write_text(json.dumps(model))


def test_files_reach_the_loader_by_hundreds():
    with NullDaemon() as daemon:
        for i in range(450):
            (daemon.folder / f"models.d/null/{i}.json").write_text("{}")
        link = daemon.folder / "models.d/null/null.json"
        link.rename(daemon.folder / "elsewhere")
        link.symlink_to(daemon.folder / "elsewhere")
        status, body = daemon.post("/admin/v1/models/null/load", {})
        assert status == 503 and "exited with 9" in body["error"]["message"]  # the null loader takes one message of files


# The configuration is read again


def test_a_new_model_appears_and_a_vanished_one_goes():
    with NullDaemon() as daemon:
        daemon.load("null")
        daemon.write_model({"name": "other", "path": "other"})
        daemon.reload()
        until("the other", lambda: daemon.get("/v1/models/other")[0] == 200)
        assert daemon.post(CHAT, chat("tokens=1", model="other"))[0] == 200
        assert daemon.model("null")["loads"] == 1 and daemon.model("null")["state"] == "ready"
        daemon.write_config({"default_model": "other"})
        (daemon.folder / "models.d/null.yaml").unlink()
        pid = daemon.engine_pid()
        daemon.reload()
        until("it to be gone", lambda: daemon.get("/v1/models/null")[0] == 404)
        until("its engine to be gone", lambda: not os.path.exists(f"/proc/{pid}"))
        assert daemon.post(CHAT, chat("tokens=1"))[1]["model"] == "other"


def test_models_are_listed_in_the_order_of_their_files_even_if_they_came_later():
    with NullDaemon({"name": "b", "path": "null"}, {"name": "d", "path": "null"}, config={"default_model": "b"}) as daemon:
        for name in "eca":
            daemon.write_model({"name": name, "path": "null"})
        daemon.reload()
        until("them to be there", lambda: daemon.get("/v1/models/a")[0] == 200)
        assert [m["id"] for m in daemon.get("/v1/models")[1]["data"]] == list("abcde")


def test_a_vanished_model_finishes_what_it_does():
    with NullDaemon({"name": "null", "path": "null"}, {"name": "other", "path": "other"}, config={"default_model": "other"}) as daemon:
        answers = []
        asker = threading.Thread(target=lambda: answers.append(daemon.post(CHAT, chat("tokens=400 delay_us=1000", model="null"))))
        asker.start()
        daemon.wait_running(1)
        (daemon.folder / "models.d/null.yaml").unlink()
        daemon.reload()
        until("it to be gone", lambda: daemon.get("/v1/models/null")[0] == 404)
        asker.join()
        assert answers[0][0] == 200 and answers[0][1]["usage"]["completion_tokens"] == 400


def test_a_changed_model_loads_anew_when_its_requests_have_finished():
    with NullDaemon() as daemon:
        answers = []
        asker = threading.Thread(target=lambda: answers.append(daemon.post(CHAT, chat("tokens=400 delay_us=1000"))[0]))
        asker.start()
        daemon.wait_running(1)
        daemon.write_model({**NULL, "context": 512})
        daemon.reload()
        until("it to be read", lambda: "was read again" in daemon.log())
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200
        asker.join()
        assert answers == [200] and daemon.model("null")["loads"] == 2


def test_a_broken_file_leaves_the_old_configuration_in_force():
    with NullDaemon() as daemon:
        daemon.load("null")
        daemon.config.write_text("version: 1\nlimits: {queue: many}\n")
        daemon.reload()
        until("the log", lambda: "the old one stays in force" in daemon.log())
        assert f"{daemon.config}:2:17: limits.queue: \"many\" is not a whole number" in daemon.log()
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200 and daemon.model("null")["loads"] == 1


def test_an_option_that_no_plugin_has_leaves_the_old_configuration_in_force():
    with NullDaemon() as daemon:
        daemon.load("null")
        other = daemon.folder / "models.d/other.yaml"
        other.write_text("name: other\npath: ./null\nsampling: {nonsense: 1}\n")
        daemon.reload()
        until("the log", lambda: "the old one stays in force" in daemon.log())
        assert f"{other}:3:12: sampling.nonsense" in daemon.log()
        assert daemon.model("null")["loads"] == 1 and daemon.get("/v1/models/other")[0] == 404
        other.write_text("name: other\npath: ./null\n")
        daemon.reload()
        until("the new model", lambda: daemon.get("/v1/models/other")[0] == 200)


# Starting and stopping


def test_sigterm_lets_a_stream_finish():
    with NullDaemon() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=500 delay_us=1000", stream=True))
        response.readline()
        daemon.signal(signal.SIGTERM)
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert daemon.process.wait(10) == 0
        assert not os.path.exists(daemon.socket)


def test_sigterm_ends_long_streams_with_an_error():
    with NullDaemon() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
        response.readline()
        start = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert b"shutting_down" in response.read().strip().split(b"\n\n")[-1]
        connection.close()
        assert daemon.process.wait(20) == 0 and 4 < time.monotonic() - start < 15


def test_a_client_that_does_not_read_does_not_keep_it_alive():
    with NullDaemon() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 size=1000", stream=True))
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
        connection.close()


def test_it_may_have_as_many_descriptors_as_the_system_allows():
    with NullDaemon() as daemon:
        hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        assert hard[0] == hard[1]


def test_a_second_sigterm_ends_it_at_once():
    with NullDaemon() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
        response.readline()
        pid = daemon.engine_pid()
        daemon.signal(signal.SIGTERM)
        until("it to be stopping", lambda: "stopping" in daemon.log())
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(3) == 0
        assert not os.path.exists(f"/proc/{pid}")
        connection.close()


def test_helpers_die_with_a_killed_daemon():
    daemon = NullDaemon().start()
    try:
        daemon.load("null")
        pid = daemon.engine_pid()
        daemon.process.kill()
        daemon.process.wait()
        until("the engine to be gone", lambda: not os.path.exists(f"/proc/{pid}") or
              open(f"/proc/{pid}/stat").read().split()[2] == "Z")
    finally:
        with contextlib.suppress(AssertionError):
            daemon.__exit__(None, None, None)


def test_a_socket_that_was_left_over_is_replaced():
    daemon = NullDaemon()
    (daemon.folder / "run").mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(daemon.socket)
    left.close()
    with daemon:
        assert daemon.get("/healthz")[0] == 200
        assert os.stat(daemon.socket).st_mode & 0o777 == 0o660


def test_a_second_daemon_is_refused():
    with NullDaemon() as daemon:
        second = subprocess.run(daemon.arguments, capture_output=True, text=True, timeout=20)
        assert second.returncode == 1 and "another daemon answers" in second.stderr
        assert daemon.get("/healthz")[0] == 200


def test_a_socket_passed_by_systemd_is_served():
    daemon = NullDaemon()
    (daemon.folder / "run").mkdir(mode=0o700)
    daemon.arguments = ["systemd-socket-activate", "--fdname=api", "-l", daemon.socket, *daemon.arguments]
    with daemon:
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200


def test_systemd_is_told_when_it_is_ready_reloads_and_stops():
    daemon = NullDaemon()
    path = str(daemon.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(20)
        daemon.environment["NOTIFY_SOCKET"] = path
        with daemon:
            assert notify.recv(1000).startswith(b"READY=1\n")
            daemon.reload()
            assert notify.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notify.recv(1000).startswith(b"READY=1\n")
            daemon.stop()
            assert notify.recv(1000).startswith(b"STOPPING=1")


def run(*args, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("INVOCATION_ID", "RUNTIME_DIRECTORY")}
    return subprocess.run([DEEPSEEKD, *args], capture_output=True, text=True, timeout=20, env={**env, **environment})


def test_the_command_line_is_explained():
    assert run("--version").stdout.startswith("deepseekd ")
    shown = run("--help").stdout
    for word in ("--check-config", "limits.queue", "models.d", "kv_type"):
        assert word in shown
    for args in (["--nonsense"], ["x"], ["--plugin-dir", "relative"], ["--config"]):
        assert run(*args).returncode == 2


def test_the_system_service_takes_helpers_only_from_where_they_were_installed():
    for option in ("--plugin-dir", "--libexec-dir"):
        ran = run(option, "/tmp", INVOCATION_ID="1", RUNTIME_DIRECTORY="/run/deepseekd")
        assert ran.returncode == 2 and option in ran.stderr


def check(folder, text):
    (folder / "deepseekd.yaml").write_text(text)
    ran = run("--config", str(folder / "deepseekd.yaml"), "--libexec-dir", str(HELPERS), "--check-config")
    return ran.returncode, ran.stderr.splitlines()


def test_a_good_configuration_is_valid(tmp_path):
    assert check(tmp_path, "version: 1\n") == (0, [])


def test_every_error_is_listed_with_its_place(tmp_path):
    code, lines = check(tmp_path, "version: 1\nlimts: {}\nlisten:\n  mode: 999\n  max_body: big\ndefault_model: nobody\n")
    file = tmp_path / "deepseekd.yaml"
    assert code == 1 and lines == [
        f"{file}:2:1: limts: unknown key (did you mean limits?)",
        f"{file}:4:9: listen.mode: \"999\" is not a mode (allowed: three octal digits, such as 0660)",
        f"{file}:5:13: listen.max_body: \"big\" is not a size (allowed: a size such as 4MiB, 1.0 KiB to 64.0 MiB)",
        f"{file}:6:16: default_model: there is no model \"nobody\"",
    ]


def test_options_of_plugins_and_samplers_are_checked_against_what_there_is(tmp_path):
    (tmp_path / "models.d").mkdir()
    (tmp_path / "models.d/m.yaml").write_text("name: m\npath: .\nsampling: {temprature: 1, top_k: 5000}\nbackend: abacus\n"
                                       "dialect: auto\n")
    code, lines = check(tmp_path, "version: 1\nplugins:\n  load: [null-sampler]\n  options:\n    null-sampler: {top_k: x}\n"
                                  "    absent: {a: 1}\n")
    assert code == 1
    assert [line.split(": ", 1)[1].split(" (")[0] for line in lines] == [
        "plugins.options.null-sampler.top_k: \"x\" does not fit", "plugins.options.absent: plugins.load has no such plugin",
        "backend: \"abacus\" is in no plugin of plugins.load",
        "sampling.temprature: unknown option", "sampling.top_k: \"5000\" does not fit"]


def test_a_helper_that_is_not_there_is_named(tmp_path):
    (tmp_path / "deepseekd.yaml").write_text("version: 1\n")
    ran = run("--config", str(tmp_path / "deepseekd.yaml"), "--libexec-dir", "/nowhere", "--check-config")
    assert ran.returncode == 1 and "/nowhere/ds-loader" in ran.stderr


def test_layers_are_laid_over_each_other(tmp_path):
    """The vendor's layer below, the user's above: maps merge, a file of the same name replaces, /dev/null hides."""
    layer = tmp_path / "config/deepseekd"
    (layer / "models.d").mkdir(parents=True)
    (layer / "conf.d").mkdir()
    (layer / "deepseekd.yaml").write_text("version: 1\ndefault_model: mine\n")
    (layer / "conf.d/10-queue.yaml").write_text("limits: {queue: 7}\n")
    (layer / "models.d/tiny-r1.yaml").symlink_to("/dev/null")
    (layer / "models.d/mine.yaml").write_text("name: mine\npath: .\n")
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path / "run"),
                   "XDG_STATE_HOME": str(tmp_path / "state")}
    ran = run("--check-config", "--libexec-dir", str(HELPERS), **environment)
    assert (ran.returncode, ran.stdout) == (0, "the configuration is valid: 1 model\n"), ran.stderr
    (layer / "models.d/tiny-r1.yaml").unlink()
    ran = run("--check-config", "--libexec-dir", str(HELPERS), **environment)
    assert ran.stdout == "the configuration is valid: 2 models\n", ran.stderr


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_LIBRARY_PATH", "HOME"])
def test_helpers_get_a_fixed_environment(variable):
    with NullDaemon(environment={variable: "", "DEEPSEEKD_CPU": "portable"}) as daemon:
        daemon.load("null")
        environment = open(f"/proc/{daemon.engine_pid()}/environ", "rb").read().decode().strip("\0").split("\0")
        assert sorted(environment) == ["DEEPSEEKD_CPU=portable", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "PATH=/usr/bin:/bin"]
        fds = sorted(int(fd) for fd in os.listdir(f"/proc/{daemon.engine_pid()}/fd"))
        assert fds[:4] == [0, 1, 2, 3] and len(fds) <= 5  # and the image


def test_the_broker_has_one_thread_and_links_no_arithmetic():
    with NullDaemon() as daemon:
        assert os.listdir(f"/proc/{daemon.process.pid}/task") == [str(daemon.process.pid)]
        if SEES_INSIDE:
            maps = open(f"/proc/{daemon.process.pid}/maps").read()
            assert "blas" not in maps and "pcre2" not in maps


def test_a_daemon_started_with_its_standard_descriptors_closed_gives_helpers_none_of_its_own():
    daemon = NullDaemon()
    daemon.arguments = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *daemon.arguments]
    with daemon:
        daemon.load("null")
        assert {os.readlink(f"/proc/{daemon.engine_pid()}/fd/{fd}") for fd in range(3)} == {"/dev/null"}


@pytest.mark.parametrize("option", ["--config", "--runtime-dir", "--state-dir"])
def test_an_empty_path_is_a_mistake_on_the_command_line(option):
    ran = subprocess.run([DEEPSEEKD, option, ""], capture_output=True, timeout=60)
    assert ran.returncode == 2
    assert f"{option} : the path is empty".encode() in ran.stderr

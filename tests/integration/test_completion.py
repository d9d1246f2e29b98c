"""The completions of dsctl as they are installed, run in their shells beside a daemon that says what a test tells it to."""

import os
import pathlib
import shutil
import subprocess

import pytest

from fake_daemon import Answer, FakeDaemon

STAGE = pathlib.Path(os.environ.get("DEEPSEEKD_STAGE", "build/stage")).resolve()
SCRIPTS = {"bash": STAGE / "share/bash-completion/completions/dsctl",
           "zsh": STAGE / "share/zsh/site-functions/_dsctl",
           "fish": STAGE / "share/fish/vendor_completions.d/dsctl.fish"}
VERBS = {"run", "chat", "status", "ls", "load", "unload", "plugins", "verify", "inspect", "quantize", "tokenize", "render", "bench",
         "config", "completion"}


@pytest.fixture
def fake(tmp_path):
    with FakeDaemon(str(tmp_path / "api.sock")) as daemon:
        daemon.routes["GET", "/v1/models"] = Answer(200, {"object": "list", "data": [
            {"id": name, "object": "model", "state": "absent", "aliases": []} for name in ("mine", "r1:7b", "r1:70b")]})
        yield daemon


def shell(name, script, folder, socket="/nonexistent", stdin=subprocess.DEVNULL):
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    environment = {"PATH": f"{STAGE / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8", "TERM": "dumb",
                   "DEEPSEEKD_SOCKET": socket, **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
    ran = subprocess.run([name, *{"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name], "-c", script],
                         capture_output=True, text=True, timeout=60, cwd=folder, env=environment, stdin=stdin)
    assert ran.returncode == 0 and ran.stderr == ""
    return ran.stdout.splitlines()


def bash(line, folder, socket="/nonexistent"):
    script = f". '{SCRIPTS['bash']}'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _dsctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return {word for word in shell("bash", script, folder, socket) if word}


def fish(line, folder, socket="/nonexistent"):
    answer = shell("fish", f"source '{SCRIPTS['fish']}'; complete -C '{line}'", folder, socket)
    return {word.partition("\t")[0] for word in answer}


def help_of(*words):
    return subprocess.run([STAGE / "bin/dsctl", "--help", *words], capture_output=True, text=True, check=True).stdout


def test_bash_completes_every_verb_that_the_help_lists(tmp_path):
    listed = help_of().partition("Verbs:\n")[2].partition("\n\n")[0]
    assert bash("dsctl ", tmp_path) == {line.split()[0] for line in listed.splitlines()} >= VERBS
    assert bash("dsctl qu", tmp_path) == {"quantize"}
    assert "check" in bash("dsctl config ", tmp_path)


def test_bash_completes_options_of_the_verb_and_of_all(tmp_path):
    everywhere = {"--socket", "--json", "--no-legend", "--timeout", "--help", "--version"}
    assert bash("dsctl --", tmp_path) >= everywhere
    run = bash("dsctl run --", tmp_path)
    assert run > everywhere
    assert run == {word.rstrip(",") for word in help_of("run").split() if word.startswith("--")}
    assert bash("dsctl ls --", tmp_path) == bash("dsctl --", tmp_path)


@pytest.mark.parametrize("line", ["dsctl load ", "dsctl run ", "dsctl chat ", "dsctl unload ", "dsctl run -m ", "dsctl run --seed 5 ",
                                  "dsctl -j load ", "dsctl --timeout 3 load "])
def test_bash_asks_the_daemon_for_models(fake, tmp_path, line):
    assert bash(line, tmp_path, fake.path) == {"mine", "r1:7b", "r1:70b"}


def test_bash_asks_the_daemon_that_the_line_names(fake, tmp_path):
    assert bash(f"dsctl --socket {fake.path} load m", tmp_path) == {"mine"}
    assert bash(f"dsctl --socket={fake.path} load m", tmp_path) == {"mine"}


def test_bash_completes_behind_the_colon_of_a_name(fake, tmp_path):
    assert bash("dsctl load r1:7", tmp_path, fake.path) == {"7b", "70b"}
    assert bash("dsctl run --model=mi", tmp_path, fake.path) == {"mine"}


@pytest.mark.parametrize("line", ["dsctl load ", "dsctl run ", "dsctl unload x", "dsctl run -m "])
def test_bash_is_silent_without_a_daemon(tmp_path, line):
    assert bash(line, tmp_path) == set()


@pytest.mark.parametrize("line", ["dsctl run mine ", "dsctl load mine ", "dsctl run --seed ", "dsctl status "])
def test_bash_offers_no_model_where_none_belongs(fake, tmp_path, line):
    assert bash(line, tmp_path, fake.path) == set()


def test_bash_completes_files_where_files_belong(fake, tmp_path):
    (tmp_path / "mine.gguf").touch()
    (tmp_path / "mother").mkdir()
    assert bash("dsctl inspect m", tmp_path, fake.path) == {"mine.gguf", "mother"}
    assert bash("dsctl tokenize m", tmp_path, fake.path) == {"mine", "mine.gguf", "mother"}
    assert bash("dsctl verify mine --vectors m", tmp_path, fake.path) == {"mother"}
    assert bash("dsctl quantize mine.gguf m", tmp_path, fake.path) == {"mine.gguf", "mother"}
    assert bash("dsctl config check m", tmp_path, fake.path) == {"mine.gguf", "mother"}


def test_fish_completes_verbs_models_and_options(fake, tmp_path):
    assert fish("dsctl ", tmp_path, fake.path) >= VERBS
    assert fish("dsctl load ", tmp_path, fake.path) == {"mine", "r1:7b", "r1:70b"}
    assert fish("dsctl --socket x -m y load ", tmp_path, fake.path) == {"mine", "r1:7b", "r1:70b"}
    assert fish("dsctl config ", tmp_path, fake.path) == {"check"}
    assert {"--hide-thinking", "--json"} <= fish("dsctl run --", tmp_path, fake.path)
    assert "--hide-thinking" not in fish("dsctl ls --", tmp_path, fake.path)
    assert fish("dsctl load ", tmp_path) == set()


def test_zsh_completes_verbs_models_and_options(fake, tmp_path):
    """In a real line editor, through the pseudo-terminal module of zsh, which is read until it shows all that it should."""
    script = f"""
        zmodload zsh/zpty
        zpty z 'PS1= TERM=dumb zsh -f -i'
        zpty -w z 'fpath=("{SCRIPTS["zsh"].parent}" $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump'
        zpty -w z 'bindkey "^I" list-choices; zstyle ":completion:*" list-separator ""; LISTMAX=1000; echo do""ne'
        zpty -r z answer '*done*'
        zpty -n -w z "$1"$'\\t'
        shift
        seen=
        for word in "$@"; do
            while [[ $seen != *$word* ]]; do
                zpty -r z answer '*?' || exit 1
                seen+=$answer
            done
        done
        zpty -d z
    """
    def zsh_shows(line, words):
        quoted = " ".join(f"'{word}'" for word in (line, *words))
        shell("zsh", f"set -- {quoted}\n{script}", tmp_path, fake.path)

    zsh_shows("dsctl ", VERBS)
    zsh_shows("dsctl load ", ["mine", "r1:7b", "r1:70b"])
    zsh_shows("dsctl run --h", ["--hide-thinking"])
    zsh_shows("dsctl config ", ["check"])



@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_takes_the_script(tmp_path, name):
    assert shell(name, f"{name} -n '{SCRIPTS[name]}'", tmp_path) == []
    assert SCRIPTS[name].read_text() == subprocess.run([STAGE / "bin/dsctl", "completion", name], capture_output=True,
                                                       text=True, check=True).stdout

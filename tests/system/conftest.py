"""Before the first test: what an installation does."""

import subprocess

import pytest


def install():
    for command in (["systemd-sysusers"], ["systemctl", "daemon-reload"], ["systemd-tmpfiles", "--create", "deepseekd.conf"],
                    ["systemctl", "start", "dbus.socket", "dbus.service"], ["systemctl", "reload", "dbus.service"],
                    ["systemctl", "preset", "deepseekd.socket", "deepseekd-metrics.socket", "deepseekd.service"],
                    ["systemctl", "start", "deepseekd.socket"]):
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"


@pytest.fixture(scope="session", autouse=True)
def installed():
    install()

"""`trimpot watch` in a process of its own: it says where it listens, ends when asked, and needs nothing there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from trimpot.web import Server


def begun(folder: Path, *options: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """The command, and what it says first."""
    command = [sys.executable, "-m", "trimpot", "watch", "--store", "absent", *options]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert child.stdout
    return child, child.stdout.readline()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to a child alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_a_folder_until_it_is_asked_to_stop(tmp_path: Path, number: int) -> None:
    child, said = begun(tmp_path, "--port", "0", "--token", "a-secret")
    found = re.fullmatch(r"watching absent at (http://127\.0\.0\.1:\d+/)\?token=a-secret \(Ctrl-C ends it\)\n", said)
    assert found, (said, child.communicate(timeout=5))
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert client.get(found[1]).status_code == 401
        assert "There is no run in absent yet" in client.get(f"{found[1]}?token=a-secret").text
    child.send_signal(number)
    assert child.communicate(timeout=10) == ("", "") and child.returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    other = Server([])
    child, said = begun(tmp_path, "--port", str(other.port))
    assert said == ""
    _, error = child.communicate(timeout=20)
    other.close()
    wanted = f"trimpot: cannot listen at 127.0.0.1 port {other.port}: another program listens there already; "
    assert child.returncode == 1 and error == f"{wanted}choose another --port\n"

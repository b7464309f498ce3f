"""Servers as users run them, each in a process of its own and gone with the test."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from conftest import DEFINITIONS

APPS = pathlib.Path(__file__).parent / "apps"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str],
    port: int,
    log: pathlib.Path,
    env: Mapping[str, str] | None = None,
    executable: str | None = None,
) -> Iterator[str]:
    """Starts a server, waits until it listens, and ends it with its children."""
    environment = {**os.environ, "DEFINITIONS": str(DEFINITIONS), **(env or {})}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            executable=executable,
            cwd=APPS,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            give_up = time.monotonic() + 60
            while True:
                assert server.poll() is None, f"it ended:\n{log.read_text()}"
                assert time.monotonic() < give_up, f"it does not listen:\n{log.read_text()}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
            assert server.poll() is None, f"it ended:\n{log.read_text()}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]

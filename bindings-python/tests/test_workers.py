"""Forked workers in lockstep: libclamav's temporary names would meet, and what one unpacks another would delete."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import DEFINITIONS, ROOT

FILES = ("infected-letter.tar.gz", "infected-two-members.zip", "infected-attachment-zip.eml")


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="this system does not tell what is private")
def test_forked_workers_in_lockstep(catalogue: pathlib.Path) -> None:
    """4 workers and 3,000 scans each: none is false, and none has an engine of its own. The benches do it with 500 MB."""
    bench = ROOT / "bindings-python" / "benches" / "fork.py"
    # In a process of its own, since the collector of Python writes to all that its parent had.
    command = [sys.executable, str(bench), "--definitions", str(DEFINITIONS), "--signatures", "400000", "--files"]
    command += [str(catalogue / name) for name in FILES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    parent = re.search(r"the parent has .*'private': (\d+)", done.stdout)
    assert parent and int(parent[1]) > 40, f"a worker that had its own engine would not be noticed: {done.stdout}"
    assert done.stdout.count("3000 scans, 0 false") == 4


def test_a_false_verdict_fails_the_bench(catalogue: pathlib.Path) -> None:
    bench = ROOT / "bindings-python" / "benches" / "fork.py"
    command = [sys.executable, str(bench), "--definitions", str(DEFINITIONS), "--signatures", "1000", "--scans", "4"]
    done = subprocess.run(
        [*command, "--files", str(catalogue / "clean-text.txt")], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "FAILED"), done.stdout + done.stderr

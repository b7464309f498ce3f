"""Forked workers in lockstep: libclamav's temporary names would meet, and what one unpacks another would delete."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
from collections import Counter
from typing import Any

import pytest

from scan_pipeline import SyncScanner

WORKERS = 4
SCANS = 3000
FILES = ("infected-letter.tar.gz", "infected-two-members.zip", "infected-attachment-zip.eml")


def private_memory() -> int:
    """Bytes of this process that it shares with no other."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) << 10


def work(scanner: SyncScanner, contents: list[bytes], start: Any, pipe: Any) -> None:
    said: Counter[str] = Counter()
    before = 0
    for number in range(SCANS):
        # Together, so that all of them draw their names at once.
        start.wait(60)
        said[scanner.scan(contents[number % len(contents)]).verdict.status] += 1
        if number == 100:  # By then there are threads, and buffers of their usual size.
            before = private_memory()
    pipe.send((said, private_memory() - before))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="this system does not tell what is private")
def test_forked_workers_in_lockstep(scanner: SyncScanner, catalogue: pathlib.Path) -> None:
    contents = [(catalogue / name).read_bytes() for name in FILES]
    for content in contents:
        assert scanner.scan(content).verdict.status == "infected"
    fork = multiprocessing.get_context("fork")
    start, ours, workers = fork.Barrier(WORKERS), [], []
    for _ in range(WORKERS):
        receiver, sender = fork.Pipe(duplex=False)
        worker = fork.Process(target=work, args=(scanner, contents, start, sender))
        worker.start()
        sender.close()
        ours.append(receiver)
        workers.append(worker)
    for receiver, worker in zip(ours, workers, strict=True):
        assert receiver.poll(240), "a worker does not answer"
        said, grown = receiver.recv()
        worker.join(30)
        assert worker.exitcode == 0
        assert said == {"infected": SCANS}
        assert grown < 20 << 20, f"{grown} bytes more"

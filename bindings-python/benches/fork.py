"""What forked workers share of an engine: the memory of each after so many scans, with a database of some hundred
megabytes.

    python benches/fork.py --definitions scan-pipeline/definitions --files DIR [--signatures 3000000]

The files have to be infected by the definitions. The database is made up (hashes of nothing) beside those definitions,
in a folder of its own. The exit status is 1 where a worker says otherwise of a file, or has grown by 20 MiB of its own
since before its first scan.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from scan_pipeline import SyncScanner

MOST = 20
"""MiB by which the private memory of a worker may grow."""


def memory() -> dict[str, int]:
    """MiB of this process: all of it, and what it shares with no other."""
    sums = {"resident": 0, "private": 0}
    for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            sums["resident"] += int(line.split()[1])
        elif line.startswith("Private_"):
            sums["private"] += int(line.split()[1])
    return {name: kilobytes >> 10 for name, kilobytes in sums.items()}


def work(scanner: SyncScanner, contents: list[bytes], scans: int, barrier: Any, pipe: Any) -> None:
    before, wrong = memory(), 0
    for number in range(scans):
        barrier.wait(600)
        if scanner.scan(contents[number % len(contents)]).verdict.status != "infected":
            wrong += 1
    pipe.send((wrong, before, memory()))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--definitions", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--signatures", type=int, default=3_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--scans", type=int, default=3000)
    arguments = parser.parse_args()
    contents = [path.read_bytes() for path in arguments.files]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(arguments.definitions, folder, dirs_exist_ok=True)
        with open(f"{folder}/made-up.hdb", "w") as database:
            for number in range(arguments.signatures):
                digest = hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
                database.write(f"{digest}:{1000 + number % 100_000}:Made.Up.{number}\n")
        scanner = SyncScanner(folder, threads=1)
    print(f"{scanner.info.signatures} signatures; the parent has {memory()} MiB")
    fork = multiprocessing.get_context("fork")
    barrier, pipes, workers = fork.Barrier(arguments.workers), [], []
    for _ in range(arguments.workers):
        ours, theirs = fork.Pipe(duplex=False)
        worker = fork.Process(target=work, args=(scanner, contents, arguments.scans, barrier, theirs))
        worker.start()
        pipes.append(ours)
        workers.append(worker)
    failed = False
    for pipe, worker in zip(pipes, workers, strict=True):
        wrong, before, after = pipe.recv()
        worker.join()
        grown = after["private"] - before["private"]
        failed = failed or wrong > 0 or grown >= MOST or worker.exitcode != 0
        print(
            f"worker {worker.pid}: {arguments.scans} scans, {wrong} false; {before} MiB before, {after} after, "
            f"{grown} of its own more"
        )
    print("FAILED" if failed else f"passed: no false verdict, and each has grown by less than {MOST} MiB")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

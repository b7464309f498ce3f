"""What a scan costs from Python, beside the same call from Rust and, where one runs, beside clamd with the `clamd`
package.

    cargo bench -p scan-pipeline-python --bench call --no-run   # then, with the wheel of `make wheel` installed:
    python benches/scan.py --call target/release/deps/call-... --definitions DIR --files DIR [--clamd SOCKET] [--rounds
    N]

CPU is that of all threads; for clamd it is that of this process and of the daemon together. Every second round is the
other side's, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import subprocess
import time

from scan_pipeline import Scanner, SyncScanner

CLOCK = time.CLOCK_PROCESS_CPUTIME_ID


def measured(name: str, scans: int, began: tuple[float, float]) -> dict[str, float | str]:
    cpu, wall = time.clock_gettime(CLOCK) - began[0], time.perf_counter() - began[1]
    return {"name": name, "cpu_us": cpu / scans * 1e6, "wall_us": wall / scans * 1e6}


def now() -> tuple[float, float]:
    return time.clock_gettime(CLOCK), time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", type=pathlib.Path)
    parser.add_argument("--definitions", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=pathlib.Path, required=True)
    parser.add_argument("--clamd")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    files = [(path.name, path.read_bytes()) for path in sorted(arguments.files.iterdir())]
    scans = arguments.rounds * len(files)
    results: dict[str, list[dict[str, float]]] = {}

    def keep(name: str, result: dict[str, float | str]) -> None:
        results.setdefault(name, []).append({key: float(result[key]) for key in ("cpu_us", "wall_us")})

    scanner = SyncScanner(arguments.definitions, threads=1)

    def sync() -> None:
        began = now()
        for _ in range(arguments.rounds):
            for name, content in files:
                scanner.scan(content, name=name)
        keep("SyncScanner", measured("SyncScanner", scans, began))

    async def asynchronous() -> None:
        async with Scanner.open(arguments.definitions, threads=1) as scanner:
            for name, content in files:
                await scanner.scan(content, name=name)
            began = now()
            for _ in range(arguments.rounds):
                for name, content in files:
                    await scanner.scan(content, name=name)
            keep("Scanner", measured("Scanner", scans, began))

    for name, content in files:
        scanner.scan(content, name=name)
    for _ in range(arguments.repeats):
        if arguments.call:
            command = [arguments.call, arguments.definitions, arguments.files, str(arguments.rounds)]
            keep("Rust", json.loads(subprocess.check_output(command)))
        sync()
        asyncio.run(asynchronous())
        if arguments.clamd:
            keep("clamd package", clamd(arguments.clamd, files, arguments.rounds))
    print(f"{len(files)} files, {scans} scans a repeat, median of {arguments.repeats} repeats")
    for name, each in results.items():
        cpu, wall = (statistics.median(one[key] for one in each) for key in ("cpu_us", "wall_us"))
        print(f"{name:15} {cpu:9.0f} µs CPU {wall:9.0f} µs wall a file")


def clamd(socket: str, files: list[tuple[str, bytes]], rounds: int) -> dict[str, float | str]:
    import io
    import os

    import clamd as package

    connection = package.ClamdUnixSocket(socket)
    pid = int(subprocess.check_output(["pidof", "-s", "clamd"]))

    def daemon() -> float:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    for _, content in files:
        connection.instream(io.BytesIO(content))
    before, began = daemon(), now()
    for _ in range(rounds):
        for _, content in files:
            connection.instream(io.BytesIO(content))
    result = measured("clamd", rounds * len(files), began)
    result["cpu_us"] = float(result["cpu_us"]) + (daemon() - before) / (rounds * len(files)) * 1e6
    return result


if __name__ == "__main__":
    main()

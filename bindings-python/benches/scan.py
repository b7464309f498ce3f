"""What a scan costs from Python, beside the same call from Rust and beside clamd with the `clamd` package.

    scripts/python-bench.sh        # builds everything, in release, and runs this and fork.py
    python benches/scan.py --call target/release/deps/call-... --definitions DIR --files DIR [--clamd PROGRAM]
        [--most 1.03]

CPU is that of all threads; for clamd it is that of this process and of the daemon together. The sides take turns, so
that a busy machine slows all of them; what is compared is the median of the ratios of each turn. With ``--most`` the
exit status is 1 where a Python scanner takes more than so many times what Rust takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from scan_pipeline import Scanner, SyncScanner

CLOCK = time.CLOCK_PROCESS_CPUTIME_ID
Files = list[tuple[str, bytes]]
Cost = dict[str, float]


class Clock:
    """CPU of this process, and time, since it was made."""

    def __init__(self) -> None:
        self._began = time.clock_gettime(CLOCK), time.perf_counter()

    def cost(self, scans: int, more: float = 0.0) -> Cost:
        cpu, wall = time.clock_gettime(CLOCK) - self._began[0] + more, time.perf_counter() - self._began[1]
        return {"cpu_us": cpu / scans * 1e6, "wall_us": wall / scans * 1e6}


def sync(scanner: SyncScanner, files: Files, rounds: int) -> Cost:
    clock = Clock()
    for _ in range(rounds):
        for name, content in files:
            scanner.scan(content, name=name)
    return clock.cost(rounds * len(files))


async def asynchronous(scanner: Scanner, files: Files, rounds: int) -> Cost:
    clock = Clock()
    for _ in range(rounds):
        for name, content in files:
            await scanner.scan(content, name=name)
    return clock.cost(rounds * len(files))


class Clamd:
    """A daemon with the same definitions and limits, and no memory of what was clean."""

    def __init__(self, program: pathlib.Path, definitions: pathlib.Path, folder: pathlib.Path) -> None:
        import clamd  # type: ignore[import-untyped]

        settings = folder / "clamd.conf"
        settings.write_text(
            f"DatabaseDirectory {definitions}\nLocalSocket {folder}/socket\nForeground yes\nDisableCache yes\n"
            "MaxThreads 1\nSelfCheck 0\nAllowAllMatchScan yes\nMaxFileSize 100M\nMaxScanSize 400M\n"
            "StreamMaxLength 100M\n"
        )
        self._log = (folder / "log").open("wb")
        command = [str(program), "--config-file", str(settings)]
        self._daemon = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self._client = clamd.ClamdUnixSocket(str(folder / "socket"))
        while True:
            with contextlib.suppress(clamd.ConnectionError):
                if self._client.ping() == "PONG":
                    break
            if self._daemon.poll() is not None:
                raise SystemExit(f"clamd ended: {(folder / 'log').read_text()}")
            time.sleep(0.1)

    def cost(self, files: Files, rounds: int) -> Cost:
        clock, before = Clock(), self._cpu()
        for _ in range(rounds):
            for _, content in files:
                self._client.instream(io.BytesIO(content))
        return clock.cost(rounds * len(files), self._cpu() - before)

    def _cpu(self) -> float:
        fields = pathlib.Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()
        self._log.close()


@contextlib.contextmanager
def daemon(program: pathlib.Path | None, definitions: pathlib.Path) -> Iterator[Clamd | None]:
    if program is None:
        print("NOT MEASURED: clamd with the clamd package; name the program with --clamd (apt install clamav-daemon)")
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(Clamd(program, definitions, pathlib.Path(folder))) as it:
            yield it


async def measure(arguments: argparse.Namespace, paths: list[pathlib.Path]) -> dict[str, list[Cost]]:
    files: Files = [(path.name, path.read_bytes()) for path in paths]
    results: dict[str, list[Cost]] = {}
    definitions = arguments.definitions
    with SyncScanner(definitions, threads=1) as scanner, daemon(arguments.clamd, definitions) as clamd:
        async with Scanner.open(arguments.definitions, threads=1) as other:
            with tempfile.NamedTemporaryFile("w") as listed:
                listed.write("".join(f"{path}\n" for path in paths))
                listed.flush()
                command = [arguments.call, arguments.definitions, listed.name, str(arguments.rounds)]
                # What is done once, such as the first use of each page, is nobody's.
                sync(scanner, files, 1)
                await asynchronous(other, files, 1)
                for _ in range(arguments.repeats):
                    results.setdefault("Rust", []).append(json.loads(subprocess.check_output(command)))
                    results.setdefault("SyncScanner", []).append(sync(scanner, files, arguments.rounds))
                    results.setdefault("Scanner", []).append(await asynchronous(other, files, arguments.rounds))
                    if clamd is not None:
                        results.setdefault("clamd package", []).append(clamd.cost(files, arguments.rounds))
    return results


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", type=pathlib.Path, required=True)
    parser.add_argument("--definitions", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take one file in so many")
    parser.add_argument("--clamd", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=float)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.files.rglob("*") if path.is_file())[:: arguments.every]
    results = asyncio.run(measure(arguments, paths))
    scans = arguments.rounds * len(paths)
    print(f"{len(paths)} files, {scans} scans a repeat, median of {arguments.repeats} repeats")
    failed = False
    for name, each in results.items():
        cpu, wall = (statistics.median(one[key] for one in each) for key in ("cpu_us", "wall_us"))
        turns = zip(each, results["Rust"], strict=True)
        ratio = statistics.median(one["cpu_us"] / rust["cpu_us"] for one, rust in turns)
        over: Any = ""
        if arguments.most is not None and name in ("SyncScanner", "Scanner") and ratio > arguments.most:
            failed, over = True, f"  MORE THAN {arguments.most}"
        print(f"{name:15} {cpu:9.0f} µs CPU {wall:9.0f} µs wall a file  {ratio:6.3f} of Rust's CPU{over}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

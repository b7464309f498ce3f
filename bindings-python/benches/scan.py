"""What a scan costs from Python over the same call from Rust, and what it costs with the `clamd` package.

    scripts/python-bench.sh        # builds everything, in release, and runs this and fork.py
    python benches/scan.py --definitions DIR --files DIR [--rounds 10] [--every 1] [--clamd PROGRAM] [--most 1.03]

The native module has to be built with the feature ``bench``, which gives it the class ``Files``: the Rust call, in this
process and on the engine that both scanners have here. What two processes, or two engines, take for the same scans differs
by more than the 3% that are asked for. "Rust, again" is the same side a second time, and shows what the noise alone does.

The sides take turns every four files (:func:`order`). What is counted is CPU of all threads, for clamd of the daemon, too,
and a round over all files is one observation. With ``--most`` the exit status is 1 where the median of a scanner's rounds
is more than so many times what Rust takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from scan_pipeline import Scanner, SyncScanner
from scan_pipeline._native import Files  # type: ignore[attr-defined]

TURN = 4
"""Files of one turn."""
SETTLE = 0.002
"""Seconds until the clock is read: what a thread did is counted in full once it waits again, and those of the runtime
and of the engine have something to put away after the answer."""


def own() -> float:
    """Milliseconds of CPU of this process."""
    return time.process_time() * 1e3


@dataclass
class Side:
    """Something that scans the files from one number to the one before another."""

    scan: Callable[[int, int], Awaitable[None]]
    clock: Callable[[], float] = own
    rounds: list[float] = field(default_factory=list)
    """Milliseconds a file."""

    async def turn(self, begin: int, end: int) -> float:
        before = self.clock()
        await self.scan(begin, end)
        time.sleep(SETTLE)
        return self.clock() - before


def order(turn: int, sides: int) -> list[int]:
    """Who comes when: there and back, A-B-B-A, so that a machine that gets faster or slower does so for all; and by turns
    of twice as many as there are sides each comes equally often at each place, and behind each other, whose data it finds
    in the processor's cache."""
    there = [(at + 1) // 2 if at % 2 else -at // 2 for at in range(sides)]
    shifted = [(side + turn // 2) % sides for side in there]
    return shifted[::-1] if turn % 2 else shifted


def check(verdict: object, clean: object) -> None:
    if verdict != clean:
        raise SystemExit(f"a file of the benches is not clean: {verdict}")


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

    def scan(self, content: bytes) -> object:
        return self._client.instream(io.BytesIO(content))["stream"]

    def clock(self) -> float:
        """Milliseconds of CPU of this process and of the daemon."""
        fields = pathlib.Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return own() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e3

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


def sides(scanner: SyncScanner, clamd: Clamd | None, contents: list[bytes]) -> dict[str, Side]:
    # As Scanner.open makes it, but of the engine that is there.
    other = Scanner(scanner._engine, scanner._table)
    files = Files(contents)

    async def rust(begin: int, end: int) -> None:
        files.scan(scanner._engine, begin, end)

    async def sync(begin: int, end: int) -> None:
        for content in contents[begin:end]:
            check(scanner.scan(content, name="a.bin").verdict.status, "clean")

    async def asynchronous(begin: int, end: int) -> None:
        for content in contents[begin:end]:
            check((await other.scan(content, name="a.bin")).verdict.status, "clean")

    found = {"Rust": Side(rust), "SyncScanner": Side(sync), "Scanner": Side(asynchronous), "Rust, again": Side(rust)}
    if clamd is not None:
        daemon = clamd

        async def socket(begin: int, end: int) -> None:
            for content in contents[begin:end]:
                check(daemon.scan(content), ("OK", None))

        found["clamd package"] = Side(socket, daemon.clock)
    return found


async def measure(found: list[Side], files: int, rounds: int) -> None:
    # What is done once, such as the first use of each page, is nobody's.
    for side in found:
        await side.turn(0, files)
    for number in range(rounds):
        for side in found:
            side.rounds.append(0.0)
        for turn, begin in enumerate(range(0, files, TURN)):
            for at in order(number + turn, len(found)):
                found[at].rounds[-1] += await found[at].turn(begin, min(begin + TURN, files)) / files


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--definitions", type=pathlib.Path, required=True)
    parser.add_argument("--files", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take one file in so many")
    parser.add_argument("--clamd", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--most", type=float)
    arguments = parser.parse_args()
    # Without archives of ar, which libclamav does not look into, and so clamd takes less for them.
    paths = sorted(path for path in arguments.files.glob("*/*") if path.is_file() and path.parent.name != "ar")
    contents = [path.read_bytes() for path in paths[:: arguments.every]]
    definitions = arguments.definitions
    with SyncScanner(definitions, threads=1) as scanner, daemon(arguments.clamd, definitions) as clamd:
        found = sides(scanner, clamd, contents)
        asyncio.run(measure(list(found.values()), len(contents), arguments.rounds))
    print(f"{len(contents)} files, {arguments.rounds} rounds, one at a time; CPU a file")
    rust, failed = found["Rust"].rounds, False
    for name, side in found.items():
        ratios = [one / other for one, other in zip(side.rounds, rust, strict=True)]
        ratio, cheapest = statistics.median(ratios), min(side.rounds) / min(rust)
        over = ""
        if arguments.most is not None and name in ("SyncScanner", "Scanner") and ratio > arguments.most:
            failed, over = True, f"  MORE THAN {arguments.most}"
        print(
            f"{name:15} {statistics.median(side.rounds):7.2f} ms, ratio {ratio:.3f} "
            f"({min(ratios):.3f}..{max(ratios):.3f}), of the cheapest {cheapest:.3f}{over}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Scans that are cancelled end, and nothing else waits for those that go on: not the loop, nor threads."""

from __future__ import annotations

import asyncio
import pathlib
import threading
import time
import zipfile
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from conftest import DEFINITIONS, marker

from scan_pipeline import Limits, Pipeline, Scanner, SyncScanner

SLOW = bytes(range(256)) * (60 << 12)
"""60 MiB in one layer: there is no place in it where a scan could be cancelled."""


async def test_cancelling_the_task_cancels_the_scan() -> None:
    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        task = asyncio.create_task(scanner.scan(SLOW))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(scanner.scan(SLOW), 0.001)
        # And the engine goes on.
        assert (await scanner.scan(marker())).verdict.status == "infected"


def many_members(path: pathlib.Path, count: int) -> pathlib.Path:
    """An archive that takes a while, with a place after each member where a scan can end."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(count):
            archive.writestr(f"{number}.txt", b"%d harmless words " % number * 400)
    return path


@pytest.mark.parametrize("how", ["scan", "deadline", "process", "upload"])
async def test_a_cancelled_scan_makes_room(tmp_path: pathlib.Path, how: str) -> None:
    """With one thread: what comes after a scan that was cancelled in the middle does not wait for all of it."""
    (tmp_path / "incoming").mkdir()
    path = many_members(tmp_path / "incoming" / "many.zip", 8000)
    limits = Limits(max_files=100_000, max_scan_size="1GB")
    async with Scanner.open(DEFINITIONS, threads=1, limits=limits) as scanner:
        began = time.perf_counter()
        assert (await scanner.scan(path)).verdict.status == "clean"
        whole = time.perf_counter() - began
        pipeline = Pipeline(
            store=f"sqlite://{tmp_path}/scan.db",
            scanner=scanner,
            buckets={"incoming": f"file://{path.parent}"},
            settings={"limits": {"settle": "0ms"}},
        ).on("clean", None)
        async with pipeline:
            works: dict[str, Callable[[], Any]] = {
                "scan": lambda: scanner.scan(path),
                "deadline": lambda: scanner.scan(path),
                "process": lambda: pipeline.process("incoming", path.name),
                "upload": lambda: pipeline.process_upload(path, name=path.name),
            }
            work = works[how]()
            if how == "deadline":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(work, whole / 5)
            else:
                task = asyncio.create_task(work)
                done, _ = await asyncio.wait({task}, timeout=whole / 5)
                assert not done, "it was over before it could be cancelled"
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            began = time.perf_counter()
            assert (await scanner.scan(marker())).verdict.status == "infected"
            assert time.perf_counter() - began < whole / 2, f"the whole takes {whole:.2f} s"


async def test_a_cancelled_stream_is_closed() -> None:
    closed = asyncio.Event()
    began = asyncio.Event()

    async def stalling() -> Any:
        try:
            yield b"a part"
            began.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        task = asyncio.create_task(scanner.scan(stalling()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed.is_set()


def test_other_threads_run_while_one_scans(scanner: SyncScanner) -> None:
    ended = threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        while not ended.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    assert scanner.scan(SLOW).verdict.status == "clean"
    ended.set()
    thread.join()
    # With the interpreter's lock held it would have been one.
    assert counted > 10


async def ticks(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """The share of its ticks, one each 5 ms, that a ticker got beside some work, and its longest wait as a part of that."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    began = time.perf_counter()
    await work()
    took = time.perf_counter() - began
    ticker.cancel()
    return len(gaps) * 0.005 / took, max(gaps, default=took) / took


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "file"])
async def test_the_event_loop_ticks_while_a_large_content_is_scanned(kind: str, tmp_path: pathlib.Path) -> None:
    """A ticker of 5 ms beside scans of 100 MiB gets most of the ticks that it gets beside nothing."""
    content: Any = bytes(100 << 20)
    (tmp_path / "large.bin").write_bytes(content)
    source = {"bytes": content, "bytearray": bytearray(content), "file": tmp_path / "large.bin"}[kind]
    async with Scanner.open(DEFINITIONS, threads=1, limits=Limits(max_file_size="200MB")) as scanner:

        async def scan() -> None:
            assert (await scanner.scan(source)).verdict.status == "clean"

        idle, _ = await ticks(partial(asyncio.sleep, 0.5))
        share, longest = await ticks(scan)
    # A scan that held the loop, or the interpreter's lock, would have left one tick, as long as itself.
    assert share > idle / 4, f"{share:.2f} of the ticks, and {idle:.2f} beside nothing"
    assert longest < 1 / 2, f"it waited once for {longest:.2f} of the time of the scan"


async def test_a_large_buffer_is_copied_beside_the_loop() -> None:
    """While it is copied it cannot be resized, and the loop goes on; when the scan is over nothing holds on to it."""
    data = bytearray(200 << 20)
    async with Scanner.open(DEFINITIONS, threads=1, limits=Limits(max_file_size="300MB")) as scanner:
        task = asyncio.create_task(scanner.scan(data))
        await asyncio.sleep(0)
        with pytest.raises(BufferError):
            data.extend(b"more")
        assert (await task).size == 200 << 20
        data.extend(b"more")

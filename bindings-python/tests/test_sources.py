"""Every kind of source gives the same report, leaves the source as it was, and refuses what cannot be scanned."""

from __future__ import annotations

import array
import asyncio
import contextvars
import gzip
import io
import mmap
import os
import pathlib
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from conftest import DEFINITIONS, marker

from scan_pipeline import LimitError, Limits, Report, Scanner, ScanTimeout, SyncScanner

CONTENT = b"Dear Sir or Madam, " * 40_000 + marker() + b" yours sincerely"


def same(report: Report, content: bytes = CONTENT) -> None:
    assert report.verdict.status == "infected"
    assert report.size == len(content)
    import hashlib

    assert report.sha256 == hashlib.sha256(content).hexdigest()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data), io.BytesIO])
def test_buffers(scanner: SyncScanner, kind: Callable[[bytes], Any]) -> None:
    same(scanner.scan(kind(CONTENT)))


def test_a_buffer_that_changes_afterwards_is_scanned_as_it_was(scanner: SyncScanner) -> None:
    data = bytearray(CONTENT)
    report = scanner.scan(data)
    data[:] = bytes(len(data))  # Nothing of ours holds on to it.
    data.extend(b"more")
    same(report)


def test_mapped_memory(scanner: SyncScanner, path: pathlib.Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        same(scanner.scan(mapped))


def test_a_path_gives_its_name(scanner: SyncScanner, path: pathlib.Path) -> None:
    report = scanner.scan(path)
    same(report)
    assert report.verdict.threats[0].layer_path == "letter.txt"
    named = scanner.scan(path, name="../folder/other.bin").verdict.threats[0]
    assert named.layer_path == "other.bin"
    assert scanner.scan(CONTENT).verdict.threats[0].layer_path == "content"


def test_names_that_are_no_unicode(scanner: SyncScanner, tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9-\xff.txt"))
    path.write_bytes(CONTENT)
    report = scanner.scan(path)
    same(report)
    assert report.verdict.threats[0].layer_path == "caf\ufffd-\ufffd.txt"
    assert scanner.scan(CONTENT, name="a\0b\n.txt").verdict.threats[0].layer_path
    assert scanner.scan(CONTENT, name="C:\\letters\\brief ä.txt").verdict.threats[0].layer_path == "brief ä.txt"


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("position", [0, 100, len(CONTENT)])
def test_a_file_is_scanned_from_its_beginning_and_stays_where_it_is(
    scanner: SyncScanner, path: pathlib.Path, buffering: int, position: int
) -> None:
    with path.open("rb", buffering=buffering) as file:
        file.seek(position)
        same(scanner.scan(file))
        assert file.tell() == position
        assert file.read(4) == CONTENT[position : position + 4]
        os.lseek(file.fileno(), 7, os.SEEK_SET)
        same(scanner.scan(file.fileno()))
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 7


def test_what_was_written_and_not_flushed_is_scanned(scanner: SyncScanner) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        same(scanner.scan(file))
    with tempfile.NamedTemporaryFile() as named:
        named.write(CONTENT)
        same(scanner.scan(named))


@pytest.mark.parametrize("max_size", [0, 1000, 10_000_000])
def test_a_spooled_file_stays_in_memory(scanner: SyncScanner, max_size: int) -> None:
    with tempfile.SpooledTemporaryFile(max_size=max_size) as file:
        file.write(CONTENT)
        rolled = file._rolled  # type: ignore[attr-defined]
        same(scanner.scan(file))
        assert file.tell() == len(CONTENT)
        assert file._rolled == rolled  # type: ignore[attr-defined]


def test_a_file_that_unpacks_is_scanned_as_it_reads(scanner: SyncScanner, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "letter.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with gzip.open(path) as file:
        same(scanner.scan(file))


def test_a_subclass_that_reads_otherwise_is_read(scanner: SyncScanner, path: pathlib.Path) -> None:
    class Backwards(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size)[::-1] if self.tell() == 0 else b""

    path.write_bytes(b"abcdefgh")
    with Backwards(io.FileIO(path)) as file:
        report = scanner.scan(file)
    import hashlib

    assert report.sha256 == hashlib.sha256(b"hgfedcba").hexdigest()


def halves() -> Iterator[bytes]:
    yield CONTENT[:1000]
    yield b""
    yield CONTENT[1000:]


async def async_halves() -> AsyncIterator[bytes]:
    for part in halves():
        await asyncio.sleep(0)
        yield part


def test_iterables(scanner: SyncScanner) -> None:
    same(scanner.scan(halves()))
    same(scanner.scan(list(halves())))
    same(scanner.scan([bytearray(CONTENT)]))
    same(scanner.scan(CONTENT[at : at + 1] for at in range(len(CONTENT))))


async def test_all_of_it_async(path: pathlib.Path) -> None:
    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        with path.open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
            spooled.write(CONTENT)
            file.seek(0, os.SEEK_END)
            for source in (CONTENT, bytearray(CONTENT), path, file, file.fileno(), halves(), async_halves(), spooled):
                same(await scanner.scan(source))


def test_a_pipe_is_read(scanner: SyncScanner) -> None:
    read, write = os.pipe()
    with open(write, "wb") as file:
        file.write(CONTENT[-1000:])
    with open(read, "rb") as file:
        same(scanner.scan(file), CONTENT[-1000:])


class TestBadInput:
    @pytest.mark.parametrize("source", ["text", None, 1.5, True, {}, {"a": b"b"}, object(), io.StringIO("text")])
    def test_wrong_types(self, scanner: SyncScanner, source: Any) -> None:
        with pytest.raises(TypeError):
            scanner.scan(source)

    def test_a_text_file(self, scanner: SyncScanner, path: pathlib.Path) -> None:
        with path.open() as file, pytest.raises(TypeError, match="binary"):
            scanner.scan(file)

    @pytest.mark.parametrize("parts", [["text"], [1], [b"a", None], [b"a", [b"b"]]])
    def test_parts_that_are_no_bytes(self, scanner: SyncScanner, parts: list[Any]) -> None:
        with pytest.raises(TypeError, match="gives bytes"):
            scanner.scan(parts)

    async def test_async_iterables_need_a_scanner(self, scanner: SyncScanner) -> None:
        with pytest.raises(TypeError, match="Scanner"):
            scanner.scan(async_halves())

    def test_closed_files(self, scanner: SyncScanner, path: pathlib.Path) -> None:
        file = path.open("rb")
        file.close()
        spooled = tempfile.SpooledTemporaryFile()
        spooled.close()
        memory = io.BytesIO(CONTENT)
        memory.close()
        for closed in (file, spooled, memory):
            with pytest.raises(ValueError, match="closed"):
                scanner.scan(closed)
        with pytest.raises(OSError):
            scanner.scan(9999)
        with pytest.raises(ValueError):
            scanner.scan(-1)

    @pytest.mark.parametrize("what", ["missing", "folder", "fifo", "device"])
    def test_what_is_no_regular_file(self, scanner: SyncScanner, tmp_path: pathlib.Path, what: str) -> None:
        from scan_pipeline import ScanPipelineError

        path = tmp_path / what
        match what:
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "device":
                path = pathlib.Path("/dev/zero")
        with pytest.raises(ScanPipelineError) as caught:
            scanner.scan(path)
        assert caught.value.kind == ("gone" if what == "missing" else "invalid_input")
        assert not caught.value.retryable
        assert path.name in str(caught.value)

    def test_a_generator_that_raises(self, scanner: SyncScanner) -> None:
        class Broken(Exception):
            pass

        closed = []

        def broken() -> Iterator[bytes]:
            try:
                yield CONTENT
                raise Broken
            finally:
                closed.append(True)

        with pytest.raises(Broken):
            scanner.scan(broken())
        assert closed

    async def test_an_async_generator_that_raises(self) -> None:
        class Broken(Exception):
            pass

        async def broken() -> AsyncIterator[bytes]:
            yield CONTENT
            raise Broken

        async with Scanner.open(DEFINITIONS, threads=1) as scanner:
            with pytest.raises(Broken):
                await scanner.scan(broken())
            same(await scanner.scan(CONTENT))

    async def test_an_async_iterable_that_never_ends(self) -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65_536
            finally:
                closed.set()

        async def stalling() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.Event().wait()

        async with Scanner.open(DEFINITIONS, threads=1, limits=Limits(max_file_size="4MB")) as scanner:
            with pytest.raises(LimitError) as too_large:
                await scanner.scan(endless(), name="upload.bin")
            assert too_large.value.kind == "too_large" and "upload.bin" in str(too_large.value)
            assert closed.is_set()
            with pytest.raises(ScanTimeout) as late:
                await scanner.scan(stalling(), timeout=0.2)
            assert late.value.kind == "timeout" and late.value.retryable

    def test_too_large(self, small_scanner: SyncScanner, tmp_path: pathlib.Path) -> None:
        data = bytes((1 << 20) + 1)
        path = tmp_path / "large.bin"
        path.write_bytes(data)
        with path.open("rb") as file:
            for source in (data, path, file, file.fileno()):
                report = small_scanner.scan(source, name="large.bin")
                assert report.verdict.status == "unscannable"
                assert [(r.kind, r.layer_path) for r in report.verdict.reasons] == [("too_large", "large.bin")]
                assert report.size == len(data) and not report.coverage.started
                assert report.coverage.limits.max_file_size == 1 << 20
        for stream in ([data], iter([data[:1000]] * 2000)):
            with pytest.raises(LimitError):
                small_scanner.scan(stream)
        assert small_scanner.scan(data[:-1]).verdict.status == "clean"

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf"), "1"])
    def test_timeouts_that_are_none(self, scanner: SyncScanner, timeout: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            scanner.scan(b"content", timeout=timeout)

    def test_a_timeout_of_nothing_is_never_clean(self, scanner: SyncScanner) -> None:
        with pytest.raises(ScanTimeout):
            scanner.scan(CONTENT, timeout=0)


def test_nothing_to_read_yet_is_no_end(scanner: SyncScanner) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        os.write(writing, b"the beginning alone")
        with open(reading, "rb", buffering=0) as file, pytest.raises(BlockingIOError):
            scanner.scan(file)
    finally:
        os.close(writing)


async def test_async_files_are_refused(path: pathlib.Path) -> None:
    class File:
        """As aiofiles has them: what lies below may not have all that was written."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def fileno(self) -> int:
            return int(self._file.fileno())

        async def read(self, size: int = -1) -> bytes:
            return bytes(self._file.read(size))

        def __aiter__(self) -> Any:
            return self

    with path.open("rb") as file:
        async with Scanner.open(DEFINITIONS) as scanner:
            with pytest.raises(TypeError, match="async file"):
                await scanner.scan(File(file))


def test_a_wrapper_is_read_and_not_what_it_wraps(scanner: SyncScanner, tmp_path: pathlib.Path) -> None:
    class Decrypting:
        def __init__(self, file: Any) -> None:
            self._file = file

        def fileno(self) -> int:
            return int(self._file.fileno())

        def read(self, size: int = -1) -> bytes:
            return bytes(byte ^ 7 for byte in self._file.read(size))

    path = tmp_path / "sealed"
    path.write_bytes(bytes(byte ^ 7 for byte in CONTENT))
    with path.open("rb") as file:
        same(scanner.scan(Decrypting(file)))


def stalling(released: threading.Event) -> Iterator[bytes]:
    yield b"a part"
    released.wait(60)
    yield marker()


def test_a_sync_source_that_stalls_is_late(scanner: SyncScanner) -> None:
    released = threading.Event()
    try:
        with pytest.raises(ScanTimeout) as late:
            scanner.scan(stalling(released), timeout=0.2)
        assert late.value.retryable and not released.is_set()
    finally:
        released.set()


def test_a_source_read_in_time(scanner: SyncScanner) -> None:
    class Broken(Exception):
        pass

    closed = []
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")

    def broken() -> Iterator[bytes]:
        try:
            yield CONTENT
            raise Broken(place.get())
        finally:
            closed.append(True)

    place.set("here")
    with pytest.raises(Broken, match="here"):
        scanner.scan(broken(), timeout=60)
    assert closed
    same(scanner.scan(halves(), timeout=60))
    with pytest.raises(TypeError, match="gives bytes"):
        scanner.scan([b"a", "text"], timeout=60)


def test_a_feed_that_nobody_takes_keeps_nobody_waiting(scanner: SyncScanner) -> None:
    with pytest.raises(TypeError):
        scanner.scan(iter([bytes(1 << 20)] * 40), timeout="30")  # type: ignore[arg-type]

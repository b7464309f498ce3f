"""Scanners: a loaded engine, for asyncio (:class:`Scanner`) and for code that blocks (:class:`SyncScanner`)."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from . import _native, _source
from ._feeding import Feeding, feed_sync, on_thread
from ._health import Health
from ._health import look as _look
from ._runtime import Callback, logs, run, wait
from .errors import ScanPipelineError
from .model import EngineInfo, Report, engine_info
from .settings import Limits, engine_table

__all__ = ["Scanner", "SyncScanner"]

Definitions = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class _Base:
    """What both have in common: the engine, and whether it is closed."""

    def __init__(self, engine: _native.Engine, table: dict[str, Any]) -> None:
        self._native: _native.Engine | None = engine
        self._table = table

    @property
    def _engine(self) -> _native.Engine:
        logs.sync()
        if self._native is None:
            raise ScanPipelineError("the scanner is closed", kind="closed")
        return self._native

    @property
    def info(self) -> EngineInfo:
        """What the next scan would use: software, definitions, settings."""
        return engine_info(json.loads(self._engine.info()))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._native is None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.closed else self.info.name}>"


class Scanner(_Base):
    """A loaded engine for asyncio. It can be used from any number of event loops, and in children of a fork.

    >>> async def main():
    ...     async with Scanner.open() as scanner:
    ...         report = await scanner.scan(pathlib.Path("upload.zip"))
    ...         report.raise_for_verdict()
    """

    @classmethod
    def open(
        cls,
        definitions: Definitions = "auto",
        *,
        limits: Limits | None = None,
        threads: int | None = None,
        detect: str | Iterable[str] | None = None,
        temp_dir: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Opening:
        """Loads the definitions. Await it, or use it in ``async with``, which closes the scanner in the end.

        The official definitions take seconds, and over a gigabyte of memory: open one scanner for the life of the
        process.

        ``definitions`` is a folder of signature databases or one of them, or several; ``"auto"`` is where freshclam
        puts the official ones. ``threads`` is how many scans run at once; as many as there are cores if not given.
        ``detect`` looks for sensitive data in the same pass: ``"all"``, or names such as ``["ssn", "credit_card"]``.
        ``temp_dir`` is where archives are unpacked. ``settings`` is the table ``[engine]`` of a configuration file, for
        what has no argument here.

        Raises :class:`ConfigError` for settings that cannot be used, and :class:`DefinitionsError` for definitions that
        are missing, empty or malformed.
        """
        table = engine_table(
            definitions=definitions,
            limits=limits,
            threads=threads,
            detect=detect,
            temp_dir=temp_dir,
            settings=settings,
        )
        return Opening(cls, table)

    async def scan(self, source: Any, *, name: str | None = None, timeout: float | None = None) -> Report:
        """Scans a content to its end, and only then says anything about it.

        ``source`` is bytes (not copied) or another buffer (copied), a path, a binary file, a file descriptor, an upload
        of Starlette, Werkzeug or Django, or an iterable of bytes, sync or async. Files are scanned from their
        beginning, wherever their position is, and it stays. A sync file or iterable that has to be read is read on a
        thread of its own, in the caller's context; one that never gives anything keeps neither a scan that is cancelled
        or late nor the interpreter from ending, but the thread stays until it does.

        ``name`` is what layer paths begin with, by default that of the file; signatures can look at its ending.
        ``timeout`` is in seconds, and counts from now: a scan that it cuts short is unscannable (``timed_out``).

        A file or buffer above ``max_file_size`` is unscannable (``too_large``). A stream above it raises
        :class:`LimitError`, and one that stalls, or has not ended in time, :class:`ScanTimeout`. An exception of the
        source comes through as it is. Cancelling the task cancels the scan.
        """
        engine = self._engine
        found, name = _source.classify(await settled(source), name)
        match found:
            case _source.Parts() | _source.AsyncParts():
                feed = _native.Feed()
                text = await _feed(feed, found, partial(engine.scan_feed, feed, name, timeout))
            case _:
                text = await run(partial(_start, engine, found, name, timeout))
        return Report.from_json(text)

    async def refresh_definitions(self) -> bool:
        """Takes up newer definitions from where they were loaded; scans go on meanwhile. Whether there were any.

        When they cannot be loaded, the old ones go on serving, and this raises.
        """
        return bool(await run(self._engine.refresh_definitions))

    async def health(self) -> Health:
        """Whether this process can scan, with what, and what should be looked at. Scans a small file."""
        return await asyncio.to_thread(_look, self._engine, self.info, self._table)

    async def close(self) -> None:
        """Refuses further scans. Those that run go on to their end; the memory is free after the last."""
        self._native = None

    async def __aenter__(self) -> Scanner:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """A scanner that is being loaded: await it, or use it in ``async with``."""

    def __init__(self, cls: type[Scanner], table: dict[str, Any]) -> None:
        self._cls = cls
        self._table = table
        self._scanner: Scanner | None = None

    async def _open(self) -> Scanner:
        logs.sync()
        engine = await run(partial(_native.Engine.open, json.dumps(self._table), os.getcwd()))
        return self._cls(engine, self._table)

    def __await__(self) -> Generator[Any, None, Scanner]:
        return self._open().__await__()

    async def __aenter__(self) -> Scanner:
        self._scanner = await self._open()
        return self._scanner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scanner is not None:
            await self._scanner.close()


class SyncScanner(_Base):
    """The same for code that blocks: Django, Flask, Celery, scripts. Threads share it, and children of a fork.

    >>> with SyncScanner() as scanner:
    ...     scanner.scan(pathlib.Path("upload.zip")).raise_for_verdict()
    """

    def __init__(
        self,
        definitions: Definitions = "auto",
        *,
        limits: Limits | None = None,
        threads: int | None = None,
        detect: str | Iterable[str] | None = None,
        temp_dir: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Loads the definitions; arguments and exceptions are those of :meth:`Scanner.open`."""
        table = engine_table(
            definitions=definitions,
            limits=limits,
            threads=threads,
            detect=detect,
            temp_dir=temp_dir,
            settings=settings,
        )
        logs.sync()
        super().__init__(wait(_native.Engine.open(json.dumps(table), os.getcwd())), table)

    def scan(self, source: Any, *, name: str | None = None, timeout: float | None = None) -> Report:
        """As :meth:`Scanner.scan`, but waits; other threads run meanwhile. A source cannot be an async iterable.

        Without a timeout a file or iterable that has to be read is read on this thread; with one on another, which
        nobody waits for when the time is over.
        """
        engine = self._engine
        found, name = _source.classify(source, name)
        match found:
            case _source.AsyncParts():
                raise TypeError("an async iterable needs a Scanner: SyncScanner has no event loop")
            case _source.Parts(parts):
                feed = _native.Feed()
                job = engine.scan_feed(feed, name, timeout)
                if timeout is not None:
                    return Report.from_json(_feed_in_time(feed, parts, job, timeout))
                try:
                    feed_sync(feed, parts)
                except BaseException:
                    job.cancel()
                    raise
                return Report.from_json(wait(job))
            case _:
                return Report.from_json(wait(_start(engine, found, name, timeout)))

    def refresh_definitions(self) -> bool:
        """As :meth:`Scanner.refresh_definitions`."""
        return bool(wait(self._engine.refresh_definitions()))

    def health(self) -> Health:
        """As :meth:`Scanner.health`."""
        return _look(self._engine, self.info, self._table)

    def close(self) -> None:
        """As :meth:`Scanner.close`."""
        self._native = None

    def __enter__(self) -> SyncScanner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _feed_in_time(feed: _native.Feed, parts: Iterable[bytes], job: _native.Job, timeout: float) -> Any:
    """Feeds a job on another thread, and gives its result: it ends in time even where the source does not."""
    until = time.monotonic() + timeout
    # Who takes it in would wait for more when the source raised.
    feeding = Feeding(partial(feed_sync, feed, parts), feed.abandon)
    feeding.thread.start()
    try:
        result = wait(job)
    except ScanPipelineError:
        # Time for the source to end, where it is not the source that has none left.
        feeding.thread.join(min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX))
        # What it raised is why the job failed.
        if feeding.error is not None:
            raise feeding.error from None
        raise
    except BaseException:
        feed.abandon()
        raise
    # All of it was taken, so it has ended, or is putting its file's position back.
    feeding.thread.join()
    return result


def _start(
    engine: _native.Engine,
    source: _source.Source,
    name: str,
    timeout: float | None,
    callback: Callback | None = None,
) -> _native.Job:
    match source:
        case _source.Data(data):
            return engine.scan_bytes(data, name, timeout, callback)
        case _source.File(path):
            return engine.scan_path(path, name, timeout, callback)
        case _source.Descriptor(number):
            return engine.scan_descriptor(os.dup(number), name, timeout, callback)
        case _:
            raise AssertionError("parts are fed")


async def settled(source: Any) -> Any:
    """A source that does not change. What takes a while to copy is copied beside the event loop."""
    if (view := _source.large_buffer(source)) is None:
        return source
    copies: list[bytes] = []
    await on_thread(lambda: copies.append(_source.copied(view)))
    return copies[0]


async def _feed(feed: _native.Feed, source: _source.Source, start: Callable[[Callback], _native.Job]) -> Any:
    """Starts what takes a feed in, hands it a source in parts, and gives its result."""
    # First of all: a source that cannot be opened must leave nobody waiting for it.
    parts = None if isinstance(source, _source.AsyncParts) else _source.parts_of(source)
    taking = asyncio.ensure_future(run(start))
    feeding: asyncio.Future[None]
    if isinstance(source, _source.AsyncParts):
        feeding = asyncio.ensure_future(_feed_async(feed, source.parts))
    else:
        feeding = on_thread(partial(feed_sync, feed, parts or ()))
    try:
        await asyncio.wait({taking, feeding}, return_when=asyncio.FIRST_COMPLETED)
        # It may end before its content does: a limit, or a timeout.
        if not taking.done():
            await feeding
        result = await taking
        # All of it was taken, so it has ended, or is putting its file's position back.
        await feeding
        return result
    finally:
        feed.abandon()
        taking.cancel()
        feeding.cancel()
        await asyncio.gather(taking, feeding, return_exceptions=True)


async def _feed_async(feed: _native.Feed, parts: AsyncIterable[bytes]) -> None:
    iterator = aiter(parts)
    try:
        async for part in iterator:
            data = _source.part_of(part)
            taken = feed.try_send(data)
            if taken is False:
                taken = await run(partial(feed.send, data))
            if not taken:
                return
        feed.finish()
    finally:
        if (close := getattr(iterator, "aclose", None)) is not None:
            await close()

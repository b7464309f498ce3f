"""Doubles for the tests of applications: they need no definitions, and are as quick as reading the bytes.

>>> scanner = FakeSyncScanner()
>>> scanner.scan(b"this is infected").verdict.status
'infected'
>>> scanner.scan(b"harmless", name="letter.txt").verdict.status
'clean'
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _native, _source
from ._health import Health
from .errors import LimitError, ScanPipelineError
from .model import Coverage, EngineInfo, LimitsInForce, Reason, Report, Threat, Verdict
from .scanner import Scanner, SyncScanner

__all__ = ["FakeScanner", "FakeSyncScanner", "clean", "infected", "unscannable"]

Judge = Callable[[bytes, str], Verdict]


def clean() -> Verdict:
    """A verdict: clean."""
    return Verdict("clean")


def infected(name: str, signature: str = "Fake.Test.Signature") -> Verdict:
    """A verdict: infected, in the layer ``name``."""
    return Verdict("infected", threats=(Threat(signature, name),))


def unscannable(name: str, kind: str = "encrypted") -> Verdict:
    """A verdict: unscannable, for one reason, in the layer ``name``."""
    return Verdict("unscannable", reasons=(Reason(kind, name),))


def by_words(data: bytes, name: str) -> Verdict:
    """What the doubles do unless they are told otherwise: contents say themselves what they are."""
    if b"infected" in data:
        return infected(name)
    if b"unscannable" in data:
        return unscannable(name)
    return clean()


class _Fake:
    _judge: Judge
    scanned: list[str]
    """The names of what was scanned, in this order."""

    def _begin(self, judge: Judge) -> None:
        self._judge, self.scanned, self._closed = judge, [], False
        self._table: dict[str, Any] = {}
        self._native: _native.Engine | None = None

    @property
    def info(self) -> EngineInfo:
        """What a double says it is."""
        return self._info()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def _engine(self) -> _native.Engine:
        raise TypeError(
            "a double has no engine, and a Pipeline and Django's ScanningUploadHandler need one: give them a scanner "
            "with definitions of your own, such as a file of one signature"
        )

    def _named(self, source: Any, name: str | None) -> tuple[_source.Source, str]:
        if self._closed:
            raise ScanPipelineError("the scanner is closed", kind="closed")
        return _source.classify(source, name)

    def _info(self) -> EngineInfo:
        return EngineInfo(name="fake", library=_native.version, generation="fake")

    def _health(self) -> Health:
        return Health(
            ok=True,
            version=_native.version,
            engine=self._info(),
            definitions_age=None,
            temp_dir=tempfile.gettempdir(),
            temp_dir_free=None,
            unpacks_rar=True,
            resident_memory=None,
            warnings=(),
        )

    def _report(self, data: bytes, name: str) -> Report:
        self.scanned.append(name)
        verdict = self._judge(data, name or "content")
        limits = LimitsInForce(100 << 20, 400 << 20, 17, 10_000, 120_000)
        coverage = Coverage(
            proven=True,
            started=True,
            layers=1,
            bytes=len(data),
            depth=0,
            members=0,
            trivial=False,
            gap_count=len(verdict.reasons),
            limits=limits,
        )
        digest = hashlib.sha256(data).hexdigest()
        return Report(verdict, coverage, self._info(), sha256=digest, size=len(data))

    def _read(self, source: _source.Source) -> bytes:
        match source:
            case _source.Data(data):
                return data
            case _source.File(path):
                return Path(path).read_bytes()
            case _source.Descriptor(number):
                with open(number, "rb", closefd=False) as file:
                    at = file.tell()
                    file.seek(0)
                    data = file.read()
                    file.seek(at)
                    return data
            case _source.Parts(parts):
                return b"".join(_source.part_of(part) for part in parts)
            case _:
                raise TypeError("an async iterable needs a FakeScanner")


class FakeScanner(_Fake, Scanner):
    """A :class:`Scanner` without an engine. ``judge`` gets the bytes and the name, and gives the verdict, or raises."""

    def __init__(self, judge: Judge = by_words, *, max_size: int = 100 << 20) -> None:
        self._begin(judge)
        self._max_size = max_size

    async def scan(self, source: Any, *, name: str | None = None, timeout: float | None = None) -> Report:
        """As :meth:`Scanner.scan`: the same sources, and the same exceptions for those that cannot be scanned."""
        found, name = self._named(source, name)
        if isinstance(found, _source.AsyncParts):
            data = bytearray()
            async for part in found.parts:
                data += _source.part_of(part)
                if len(data) > self._max_size:
                    raise LimitError("the content is too large", kind="too_large")
            return self._report(bytes(data), name)
        return self._report(await asyncio.to_thread(self._read, found), name)

    async def close(self) -> None:
        """Refuses further scans."""
        self._closed = True

    async def refresh_definitions(self) -> bool:
        """There are none."""
        return False

    async def health(self) -> Health:
        """Always well."""
        return self._health()


class FakeSyncScanner(_Fake, SyncScanner):
    """A :class:`SyncScanner` without an engine; see :class:`FakeScanner`."""

    def __init__(self, judge: Judge = by_words) -> None:
        self._begin(judge)

    def scan(self, source: Any, *, name: str | None = None, timeout: float | None = None) -> Report:
        """As :meth:`SyncScanner.scan`."""
        found, name = self._named(source, name)
        return self._report(self._read(found), name)

    def close(self) -> None:
        """Refuses further scans."""
        self._closed = True

    def refresh_definitions(self) -> bool:
        """There are none."""
        return False

    def health(self) -> Health:
        """Always well."""
        return self._health()

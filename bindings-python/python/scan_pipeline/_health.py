"""Whether this process can scan, and with what."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import zlib
from dataclasses import dataclass
from typing import Any

from . import _native
from ._runtime import wait
from .errors import ScanPipelineError
from .model import EngineInfo, Report


@dataclass(frozen=True, slots=True)
class Health:
    """What :meth:`Scanner.health` found. ``warnings`` has a sentence for each thing that should be looked at."""

    ok: bool
    """Scans work: a small file was scanned, and there is room to unpack others."""
    version: str
    """Of this package."""
    engine: EngineInfo
    definitions_age: float | None
    """Seconds since the newest database was built."""
    temp_dir: str
    temp_dir_free: int | None
    """Bytes that are free there."""
    unpacks_rar: bool
    """Without libclamunrar every RAR with a member is unscannable."""
    resident_memory: int | None
    """Bytes of this process, what it shares with others included. Linux only."""
    warnings: tuple[str, ...]


_STALE = 7 * 86_400
_SCARCE = 64 << 20


def look(engine: _native.Engine, info: EngineInfo, table: dict[str, Any]) -> Health:
    """Looks at everything. Blocks."""
    warnings: list[str] = []
    ok, rar = True, False
    try:
        report = Report.from_json(wait(engine.scan_bytes(_stored_rar(b"probe.txt", b"is this unpacked?"), "probe.rar")))
        rar = report.verdict.status == "clean"
    except ScanPipelineError as why:
        ok = False
        warnings.append(f"a scan failed: {why}")
    if ok and not rar:
        warnings.append("RAR archives are unscannable: libclamav finds no libclamunrar")
    temp_dir = table.get("clamav", {}).get("temp_dir") or os.environ.get("TMPDIR") or "/tmp"
    try:
        with tempfile.TemporaryFile(dir=temp_dir):
            free: int | None = shutil.disk_usage(temp_dir).free
    except OSError as why:
        free, ok = None, False
        warnings.append(f"{temp_dir} cannot be written to: {why.strerror}")
    if free is not None and free < _SCARCE:
        ok = False
        warnings.append(f"{temp_dir} has only {free >> 20} MiB left")
    age = info.definitions_age()
    if age is not None and age > _STALE:
        warnings.append(f"the definitions are {age / 86_400:.0f} days old: run freshclam")
    return Health(
        ok=ok,
        version=_native.version,
        engine=info,
        definitions_age=age,
        temp_dir=temp_dir,
        temp_dir_free=free,
        unpacks_rar=rar,
        resident_memory=_resident(),
        warnings=tuple(warnings),
    )


def _resident() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _stored_rar(name: bytes, data: bytes) -> bytes:
    """A RAR 4 archive of one stored member, which only an unpacker delivers as a layer."""
    crc = zlib.crc32(data)
    member = struct.pack("<IIBIIBBHI", len(data), len(data), 3, crc, 0x5A210000, 20, 0x30, len(name), 0o100644) + name
    return (
        b"Rar!\x1a\x07\x00"
        + _block(0x73, 0, bytes(6))
        + _block(0x74, 0x8000, member)
        + data
        + _block(0x7B, 0x4000, b"")
    )


def _block(kind: int, flags: int, rest: bytes) -> bytes:
    head = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
    return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

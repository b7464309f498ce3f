"""Settings, in the words of the configuration file: what they mean is checked in one place, the Rust library."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one scan may cost. Content beyond a limit is unscannable, never clean.

    Sizes are bytes, or text such as ``"25MB"``; times are seconds, or text such as ``"30s"``. What is not given is as
    in the Rust library: 100 MiB a file, 400 MiB a scan, 17 levels, 10,000 layers, 120 seconds.
    """

    max_file_size: int | str | None = None
    """Of one layer: the file itself and each file unpacked from it."""
    max_scan_size: int | str | None = None
    """Of all layers of one scan together."""
    max_recursion: int | None = None
    max_files: int | None = None
    max_scan_time: float | str | None = None
    """For one scan, once it has started."""

    def table(self) -> dict[str, Any]:
        """The table ``[engine.clamav.limits]``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        table = {name: value for name, value in given.items() if value is not None}
        if "max_scan_time" in table:
            table["max_scan_time"] = time(table["max_scan_time"])
        return table


def time(value: float | str) -> str:
    """A time as the configuration has it: always with a unit."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a time is a number of seconds or text such as '30s', not {type(value).__name__}")
    return f"{value * 1000:.0f}ms"


def engine_table(
    *,
    definitions: Any = "auto",
    limits: Limits | None = None,
    threads: int | None = None,
    detect: str | Iterable[str] | None = None,
    temp_dir: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The table ``[engine]`` of a configuration."""
    engine: dict[str, Any] = dict(settings or {})
    clamav: dict[str, Any] = dict(engine.get("clamav", {}))
    if isinstance(definitions, (str, os.PathLike)):
        definitions = [] if definitions == "auto" else [definitions]
    if paths := [os.fspath(path) for path in definitions]:
        clamav["definitions"] = paths
    if limits is not None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits is a Limits, not {type(limits).__name__}")
        clamav["limits"] = {**clamav.get("limits", {}), **limits.table()}
    if threads is not None:
        clamav["threads"] = threads
    if temp_dir is not None:
        clamav["temp_dir"] = os.fspath(temp_dir)
    # With clamd and nothing said about libclamav, clamd alone is meant.
    if clamav or "clamd" not in engine:
        engine["clamav"] = clamav
    if detect is not None:
        engine["detect"] = detect if isinstance(detect, str) else list(detect)
    return engine

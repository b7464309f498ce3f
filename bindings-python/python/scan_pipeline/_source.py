"""What can be scanned, and how its bytes get to the native module.

A file is scanned from its beginning, wherever its position is, and the position stays: what the application reads
afterwards is what was scanned, and a file that was read to its end before does not pass for an empty one.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import stat
import tempfile
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes in memory, which nobody can change."""

    data: bytes


@dataclass(frozen=True, slots=True)
class File:
    """A regular file by its path."""

    path: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open regular file; it is duplicated when the scan starts."""

    number: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes in parts."""

    parts: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class AsyncParts:
    """Bytes in parts that have to be awaited."""

    parts: AsyncIterable[bytes]


Source = Data | File | Descriptor | Parts | AsyncParts


def classify(source: Any, name: str | None) -> tuple[Source, str]:
    """How to get at the bytes, and the name for layer paths."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is a str, not {type(name).__name__}")
    found, given = _classify(source)
    return found, base_name(given if name is None else name)


def _classify(source: Any) -> tuple[Source, str]:
    if isinstance(source, bytes):
        return Data(source), ""
    if isinstance(source, str):
        raise TypeError("a str can be a path or a text: pass pathlib.Path(...) or text.encode()")
    if isinstance(source, os.PathLike):
        path = os.fsdecode(source)
        return File(path), path
    if isinstance(source, int) and not isinstance(source, bool):
        if source < 0:
            raise ValueError("a file descriptor is not negative")
        return Descriptor(source), ""
    if (data := _buffer(source)) is not None:
        return Data(data), ""
    if (inner := _wrapped(source)) is not None:
        if getattr(source, "closed", False):
            raise ValueError("the upload is closed")
        found, given = _file(inner)
        return found, _name(source, "filename") or _name(source) or given
    if callable(read := getattr(source, "read", None)) and not inspect.iscoroutinefunction(read):
        found, given = _file(source)
        # A subclass of Werkzeug's FileStorage, whose `name` is that of the field.
        uploaded = getattr(source, "__dict__", {}).get("filename")
        return found, uploaded if isinstance(uploaded, str) else given
    if isinstance(source, AsyncIterable):
        if callable(read) and not isinstance(source, asyncio.StreamReader):
            raise TypeError(
                "an async file may have been read from, and lends what it wraps: pass its path, or await its read()"
            )
        return AsyncParts(source), _name(source)
    if isinstance(source, Iterable) and not isinstance(source, dict):
        return Parts(source), _name(source)
    raise TypeError(
        f"{type(source).__name__} cannot be scanned: pass bytes, a path, a binary file, a file descriptor, an upload, "
        "or an iterable of bytes"
    )


_WRAPPERS = {"starlette": "file", "fastapi": "file", "werkzeug": "stream", "django": "file"}
"""Where the frameworks' wrappers of a file have it: Starlette's UploadFile, whose own `read` is a coroutine, Werkzeug's
FileStorage, Django's File and UploadedFile."""

_READING = {"read", "readinto", "chunks", "seek", "tell", "file", "stream", "open", "__iter__", "__next__"}


def _wrapped(source: Any) -> Any:
    """The file in a wrapper that reads nothing else than the file does. Any other object is read as the application
    reads it: one that decrypts or unpacks on the way has a public `file`, too."""
    framework = ""
    for cls in type(source).__mro__:
        root, _, module = cls.__module__.partition(".")
        if root in _WRAPPERS and ("datastructures" in module or "files" in module):
            framework = framework or root
        elif not framework and (_READING | {"__getattr__", "__getattribute__"}) & vars(cls).keys():
            return None
    if not framework or _READING & (getattr(source, "__dict__", {}).keys() - {_WRAPPERS[framework]}):
        return None
    inner = getattr(source, _WRAPPERS[framework], None)
    return inner if callable(getattr(inner, "read", None)) else None


def _file(file: Any) -> tuple[Source, str]:
    if isinstance(file, io.TextIOBase) or isinstance(getattr(file, "encoding", None), str):
        raise TypeError("the file is open as text: open it in binary mode")
    if getattr(file, "closed", False):
        raise ValueError("the file is closed")
    name = _name(file)
    if type(file) is io.BytesIO:
        return Data(file.getvalue()), name
    # `fileno` of a SpooledTemporaryFile that is in memory would write it to the disk.
    if getattr(file, "_rolled", True) and (number := _descriptor(file)) is not None:
        return Descriptor(number), name
    return Parts(_read(file)), name


def _descriptor(file: Any) -> int | None:
    """The descriptor of a regular file that holds all that was written to it."""
    try:
        number = file.fileno()
        if not isinstance(number, int) or not stat.S_ISREG(os.fstat(number).st_mode):
            return None
    except (AttributeError, OSError):
        return None
    # A file that unpacks or decrypts on the way (gzip.open, zipfile) lends its descriptor, too.
    layer = file
    if type(file) is tempfile.SpooledTemporaryFile:
        layer = getattr(file, "_file", file)
    elif type(file) is getattr(tempfile, "_TemporaryFileWrapper", None):  # tempfile.NamedTemporaryFile
        layer = file.file
    plain = type(layer) in (io.BufferedReader, io.BufferedRandom) and type(layer.raw) is io.FileIO
    if not plain and type(layer) is not io.FileIO:
        return None
    if file.writable():
        file.flush()
    return number


def _read(file: Any) -> Iterator[bytes]:
    position = _position(file)
    if position is not None:
        file.seek(0)
    try:
        while True:
            part = file.read(CHUNK)
            if part is None:
                # Nothing yet is not the end, and what comes later was not scanned.
                raise BlockingIOError(
                    "the file has nothing to read yet: open it in blocking mode, or read it to its end first"
                )
            if not part:
                return
            yield part
    finally:
        if position is not None and not getattr(file, "closed", False):
            file.seek(position)


def parts_of(source: Source) -> Iterable[bytes]:
    """Any source in parts, for who can take it in no other way. Does not move the position of a descriptor."""
    match source:
        case Data(data):
            view = memoryview(data)
            return (bytes(view[at : at + CHUNK]) for at in range(0, len(data), CHUNK))
        case File(path):
            return _read_path(path)
        case Descriptor(number):
            return _read_descriptor(os.dup(number))
        case Parts(parts):
            return parts
        case AsyncParts():
            raise TypeError("an async iterable is awaited")


def _read_path(path: str) -> Iterator[bytes]:
    # A fifo would wait for its other end.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    yield from _read_descriptor(number)


def _read_descriptor(number: int) -> Iterator[bytes]:
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError("only regular files can be scanned")
        offset = 0
        while part := os.pread(number, CHUNK, offset):
            yield part
            offset += len(part)
    finally:
        os.close(number)


def _position(file: Any) -> int | None:
    try:
        if not getattr(file, "seekable", lambda: True)():
            return None
        position = int(file.tell())
        file.seek(position)
        return position
    except (AttributeError, OSError):
        return None


def _buffer(source: Any) -> bytes | None:
    """A copy of what a buffer holds now: it may change while it is scanned."""
    try:
        view = memoryview(source)
    except TypeError:
        return None
    with view:
        return view.tobytes()


_AT_ONCE = 1 << 20


def large_buffer(source: Any) -> memoryview | None:
    """A buffer that may change and takes a while to copy."""
    if isinstance(source, (bytes, str, int, os.PathLike)):
        return None
    try:
        view = memoryview(source)
    except TypeError:
        return None
    if view.nbytes > _AT_ONCE and view.c_contiguous:
        return view
    view.release()
    return None


def copied(view: memoryview) -> bytes:
    """A copy of a buffer, made so that other threads can run meanwhile."""
    copy = io.BytesIO()
    with view, view.cast("B") as data:
        for at in range(0, data.nbytes, _AT_ONCE):
            copy.write(data[at : at + _AT_ONCE])
    return copy.getvalue()


def part_of(part: Any) -> bytes:
    """One part of a source, as bytes."""
    if isinstance(part, bytes):
        return part
    if isinstance(part, (str, int)) or (data := _buffer(part)) is None:
        raise TypeError(f"a source gives bytes, and this one gave {type(part).__name__}")
    return data


def _name(source: Any, attribute: str = "name") -> str:
    name = getattr(source, attribute, None)
    return name if isinstance(name, str) else ""


def base_name(name: str) -> str:
    """The last part of a path, by either kind of slash. What is no Unicode in it is shown as U+FFFD."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not last.isascii() else last

"""What is scanned is what the application reads, whatever lies below it."""

from __future__ import annotations

import io
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DEFINITIONS, marker
from test_sources import CONTENT, same

from scan_pipeline import Scanner, SyncScanner


class Sealed:
    """What reads otherwise than the file below, which it lends under the names that frameworks use."""

    def __init__(self, file: Any) -> None:
        self.file = self.stream = file

    def delete(self) -> None:
        """As temporary files have it."""

    def fileno(self) -> int:
        return int(self.file.fileno())

    def read(self, size: int = -1) -> bytes:
        return bytes(byte ^ 7 for byte in self.file.read(size))

    def tell(self) -> int:
        return int(self.file.tell())

    def seek(self, to: int) -> int:
        return int(self.file.seek(to))


def sealed_for_django(file: Any) -> Any:
    from django.core.files.base import File

    class SealedFile(File):  # type: ignore[type-arg]
        def read(self, size: int = -1) -> bytes:
            assert self.file is not None
            return bytes(byte ^ 7 for byte in self.file.read(size))

    return SealedFile(file, "letter.txt")


def sealed_for_werkzeug(file: Any) -> Any:
    from werkzeug.datastructures import FileStorage

    class SealedStorage(FileStorage):
        def read(self, size: int = -1) -> bytes:
            return bytes(byte ^ 7 for byte in self.stream.read(size))

    return SealedStorage(file, "letter.txt")


@pytest.mark.parametrize("wrap", [Sealed, sealed_for_django, sealed_for_werkzeug])
@pytest.mark.parametrize("kind", ["file", "memory", "temporary"])
def test_what_is_scanned_is_what_the_application_reads(
    scanner: SyncScanner, tmp_path: pathlib.Path, wrap: Callable[[Any], Any], kind: str
) -> None:
    """Below lies what is clean; what comes out of it is not."""
    sealed = bytes(byte ^ 7 for byte in CONTENT)
    assert scanner.scan(sealed).verdict.status == "clean"
    path = tmp_path / "sealed"
    path.write_bytes(sealed)
    opened: dict[str, Any] = {"file": path.open("rb"), "memory": io.BytesIO(sealed)}
    opened["temporary"] = tempfile.NamedTemporaryFile()
    opened["temporary"].write(sealed)
    try:
        same(scanner.scan(wrap(opened[kind])))
        same(scanner.scan(wrap(opened[kind]), timeout=60))
    finally:
        for file in opened.values():
            file.close()


def test_a_recoder_is_read(scanner: SyncScanner) -> None:
    import codecs

    marked = "".join(chr(byte) for byte in CONTENT)
    with io.BytesIO(marked.encode("utf-16")) as file:
        assert scanner.scan(io.BytesIO(CONTENT.decode().encode("utf-16-be"))).sha256
        same(scanner.scan(codecs.EncodedFile(file, "latin-1", "utf-16")))


@pytest.mark.parametrize("size", [100, 5 << 20])
def test_unmodified_uploads_of_the_frameworks(scanner: SyncScanner, size: int) -> None:
    from django.conf import settings
    from django.core.files.uploadedfile import InMemoryUploadedFile, TemporaryUploadedFile
    from fastapi import UploadFile
    from starlette.datastructures import UploadFile as StarletteFile
    from werkzeug.datastructures import FileStorage

    if not settings.configured:
        settings.configure()
    content = marker() + bytes(size)
    temporary = TemporaryUploadedFile("letter.txt", "text/plain", size, None)
    temporary.write(content)
    spooled: Any = tempfile.SpooledTemporaryFile(max_size=1 << 20)
    spooled.write(content)
    memory = InMemoryUploadedFile(io.BytesIO(content), "file", "letter.txt", "text/plain", len(content), None)
    uploads: list[Any] = [temporary, memory, FileStorage(io.BytesIO(content), "letter.txt")]
    uploads += [UploadFile(io.BytesIO(content), filename="letter.txt"), StarletteFile(spooled, filename="letter.txt")]
    for upload in uploads:
        report = scanner.scan(upload)
        same(report, content)
        assert report.verdict.threats[0].layer_path == "letter.txt"
    temporary.close()
    spooled.close()

    class Modified(StarletteFile):
        async def read(self, size: int = -1) -> bytes:
            return (await super().read(size))[::-1]

    with pytest.raises(TypeError):
        scanner.scan(Modified(io.BytesIO(content), filename="letter.txt"))


@pytest.mark.parametrize("timeout", [None, 60])
def test_the_position_is_back_when_the_scan_is_over(scanner: SyncScanner, timeout: float | None) -> None:
    sealed = Sealed(io.BytesIO(bytes(byte ^ 7 for byte in CONTENT)))
    sealed.file.seek(11)
    for _ in range(20):
        same(scanner.scan(sealed, timeout=timeout))
        assert sealed.file.tell() == 11


async def test_the_position_is_back_when_an_awaited_scan_is_over() -> None:
    sealed = Sealed(io.BytesIO(bytes(byte ^ 7 for byte in CONTENT)))
    sealed.file.seek(11)
    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        for _ in range(20):
            same(await scanner.scan(sealed))
            assert sealed.file.tell() == 11

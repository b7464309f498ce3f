"""Uploads of FastAPI and Starlette, scanned before the route sees them.

>>> scanning = Scanning(limits=Limits(max_file_size="25MB"))
>>> app = FastAPI(lifespan=scanning.lifespan)
>>> scanning.install(app)
>>> @app.post("/upload")
... async def upload(file: Annotated[UploadFile, Depends(scanning.clean)]):
...     return {"stored": await store(file)}
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import File, UploadFile
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._http import problem
from .errors import ScanPipelineError
from .model import Report
from .scanner import Scanner

__all__ = ["Scanning"]

_log = logging.getLogger(__name__)


class Scanning:
    """A scanner for the life of an application, and dependencies that let clean uploads through.

    The arguments are those of :meth:`Scanner.open`; ``timeout`` is that of each scan, in seconds. ``scanner`` takes one
    that is open already, such as a double in tests.
    """

    def __init__(self, *, scanner: Scanner | None = None, timeout: float | None = 120, **settings: Any) -> None:
        self._given = scanner
        self._scanner = scanner
        self._timeout = timeout
        self._settings = settings

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Loads the definitions when the application starts, and frees them when it ends."""
        if self._given is not None:
            yield
            return
        async with Scanner.open(**self._settings) as self._scanner:
            yield
        self._scanner = None

    def install(self, app: Starlette) -> None:
        """Answers uploads that are not handed on: 422 for infected and unscannable, 413, 408, or 503 for a failed scan."""
        app.add_exception_handler(ScanPipelineError, _answer)

    @property
    def scanner(self) -> Scanner:
        """The scanner."""
        if self._scanner is None:
            raise ScanPipelineError(
                "the scanner is not open: pass lifespan=scanning.lifespan to FastAPI", kind="closed"
            )
        return self._scanner

    async def check(self, source: Any, *, name: str | None = None) -> Report:
        """Scans any source of :meth:`Scanner.scan`, and raises unless it is clean."""
        report = await self.scanner.scan(source, name=name, timeout=self._timeout)
        report.raise_for_verdict()
        return report

    async def clean(self, file: UploadFile = File()) -> UploadFile:
        """A dependency: the upload in the field ``file``, once it is clean."""
        await self.check(file)
        return file

    def field(self, name: str) -> Callable[..., Coroutine[Any, Any, UploadFile]]:
        """The same dependency for a field of another name."""

        async def clean(**fields: UploadFile) -> UploadFile:
            return await self.clean(fields[name])

        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=File(), annotation=UploadFile)
        clean.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
        return clean

    async def body(self, request: Request) -> bytes:
        """A dependency: the body of a request that is the file itself, once it is clean. It is kept in memory."""
        parts: list[bytes] = []

        async def kept() -> AsyncIterator[bytes]:
            async for part in request.stream():
                parts.append(part)
                yield part

        await self.check(kept(), name=request.url.path)
        return b"".join(parts)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, ScanPipelineError)
    status, body, headers = problem(error)
    if status >= 500:
        _log.error("an upload could not be scanned: %s", error)
    return JSONResponse(body, status_code=status, headers=headers)

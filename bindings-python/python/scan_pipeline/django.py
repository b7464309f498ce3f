"""Uploads of Django: a validator for file fields, and an upload handler that scans while the bytes come.

>>> class Letter(models.Model):
...     file = models.FileField(validators=[validate_clean])

>>> FILE_UPLOAD_HANDLERS = [
...     "scan_pipeline.django.ScanningUploadHandler",  # First: what is not clean gets no further.
...     "django.core.files.uploadhandler.MemoryFileUploadHandler",
...     "django.core.files.uploadhandler.TemporaryFileUploadHandler",
... ]

Both use one scanner, with the arguments of :class:`SyncScanner` from the setting ``SCAN_PIPELINE``, a dictionary, and
``timeout`` for each scan in seconds. It is loaded when it is first used; call :func:`get_scanner` in ``wsgi.py`` so
that the workers of ``gunicorn --preload`` share its memory.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from . import _native
from ._http import problem
from ._runtime import wait
from ._source import base_name
from .errors import ScanPipelineError
from .model import Report
from .scanner import SyncScanner

__all__ = ["ScanningUploadHandler", "UploadRefused", "get_scanner", "set_scanner", "validate_clean"]

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_scanner: SyncScanner | None = None


def get_scanner() -> SyncScanner:
    """The scanner of this process, and of its forks if it was loaded before them."""
    global _scanner
    with _lock:
        if _scanner is None:
            _scanner = SyncScanner(**{name: value for name, value in _settings().items() if name != "timeout"})
        return _scanner


def set_scanner(scanner: SyncScanner | None) -> None:
    """Has another one used, such as a double in tests. With ``None`` the next use loads one anew."""
    global _scanner
    with _lock:
        _scanner = scanner


def _settings() -> dict[str, Any]:
    return dict(getattr(settings, "SCAN_PIPELINE", {}))


def _timeout() -> float | None:
    timeout: float | None = _settings().get("timeout", 120)
    return timeout


def validate_clean(file: UploadedFile[Any]) -> None:
    """A validator: raises ``ValidationError`` with the code ``infected``, ``unscannable`` or ``not_scanned``."""
    try:
        get_scanner().scan(file, timeout=_timeout()).raise_for_verdict()
    except ScanPipelineError as error:
        status, body, _ = problem(error)
        if status >= 500:
            _log.error("an upload could not be scanned: %s", error)
        words = {
            "infected": "This file is infected.",
            "unscannable": "This file could not be scanned, because it is encrypted, damaged or too large.",
            "too_large": "This file is too large.",
        }
        message = words.get(body["error"], "This file could not be scanned. Try again later.")
        raise ValidationError(message, code=body["error"]) from error


class UploadRefused(SuspiciousOperation):
    """An upload that is not handed on. Django answers 400; ``error`` is what was found."""

    def __init__(self, error: ScanPipelineError) -> None:
        super().__init__(f"upload refused: {error.kind}")
        self.error = error


class ScanningUploadHandler(FileUploadHandler):
    """Scans each file of a request while its bytes come, and raises :class:`UploadRefused` unless it is clean.

    The handlers behind it keep the bytes; the view gets the file after its verdict, or not at all.
    """

    _feed: _native.Feed | None = None
    _job: _native.Job | None = None

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        # The handlers that keep the bytes hand on none: behind one of them nothing would be scanned.
        if self.request is not None and self.request.upload_handlers[0] is not self:
            raise ImproperlyConfigured("ScanningUploadHandler has to be the first of the upload handlers")
        super().handle_raw_input(*args, **kwargs)

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._feed = _native.Feed()
        name = base_name(self.file_name or "")
        self._job = get_scanner()._engine.scan_feed(self._feed, name, _timeout())

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        feed = self._feed
        if feed is None:
            raise RuntimeError("a chunk came before its file")
        data = bytes(raw_data)
        taken = feed.try_send(data)
        if taken is False:
            taken = wait(feed.send(data))
        if not taken:
            # The scan ended before its content did, which it does with an error only.
            self._report()
        return raw_data

    def file_complete(self, file_size: int) -> UploadedFile[Any] | None:
        if self._feed is None:
            raise UploadRefused(ScanPipelineError("no scan of this file is under way", kind="closed"))
        # Django calls this when the boundary behind the file has come, and of one that broke off never.
        self._feed.finish()
        try:
            self._report().raise_for_verdict()
        except ScanPipelineError as error:
            raise UploadRefused(error) from error
        return None

    def upload_interrupted(self) -> None:
        self._stop()

    def _report(self) -> Report:
        job, self._job, self._feed = self._job, None, None
        if job is None:
            raise UploadRefused(ScanPipelineError("the scan has ended before", kind="closed"))
        try:
            return Report.from_json(wait(job))
        except ScanPipelineError as error:
            _log.warning("an upload could not be scanned: %s", error)
            raise UploadRefused(error) from error

    def _stop(self) -> None:
        job, feed, self._job, self._feed = self._job, self._feed, None, None
        if feed is not None:
            feed.abandon()
        if job is not None:
            job.cancel()

    def __del__(self) -> None:
        # A request that broke off, or another handler that raised.
        self._stop()

"""Uploads of Flask, scanned before the view goes on.

>>> app = Flask(__name__)
>>> scanning = Scanning(app, limits=Limits(max_file_size="25MB"))
>>> @app.post("/upload")
... def upload():
...     file = scanning.clean(request.files["file"])
...     return {"stored": store(file)}

The definitions are loaded at once, so that the workers of ``gunicorn --preload`` share their memory.
"""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from flask import Flask, jsonify
from flask.typing import ResponseReturnValue

from ._http import problem
from .errors import ScanPipelineError
from .scanner import SyncScanner

__all__ = ["Scanning"]

_log = logging.getLogger(__name__)
_Source = TypeVar("_Source")


class Scanning:
    """A scanner for the life of an application, and answers to uploads that are not handed on.

    The arguments are those of :class:`SyncScanner`; ``timeout`` is that of each scan, in seconds. ``scanner`` takes one
    that is open already, such as a double in tests.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        scanner: SyncScanner | None = None,
        timeout: float | None = 120,
        **settings: Any,
    ) -> None:
        self.scanner = SyncScanner(**settings) if scanner is None else scanner
        self._timeout = timeout
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Answers uploads that are not handed on: 422 for infected and unscannable, 413, 408, or 503 for a failed scan."""
        app.register_error_handler(ScanPipelineError, _answer)
        app.extensions["scan_pipeline"] = self

    def clean(self, file: _Source) -> _Source:
        """Gives the upload back, its position unchanged, once it is clean; raises otherwise."""
        self.scanner.scan(file, timeout=self._timeout).raise_for_verdict()
        return file


def _answer(error: ScanPipelineError) -> ResponseReturnValue:
    status, body, headers = problem(error)
    if status >= 500:
        _log.error("an upload could not be scanned: %s", error)
    return jsonify(body), status, headers

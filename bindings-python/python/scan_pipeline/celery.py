"""Scans in Celery's workers.

>>> app = Celery("uploads", broker="redis://")
>>> scanning = Scanning(app)
>>> @app.task(autoretry_for=(EngineError, ScanTimeout), retry_backoff=True, max_retries=5)
... def scan_upload(path):
...     scanning.scan(pathlib.Path(path)).raise_for_verdict()

The definitions are loaded once, in the worker's main process before it forks (``worker_init``), so that the processes
of the prefork pool share their memory. Where a task runs without a worker (``task_always_eager``), the first one loads
them. """

from __future__ import annotations

import threading
from typing import Any

from celery import Celery
from celery.signals import worker_init

from .model import Report
from .scanner import SyncScanner

__all__ = ["Scanning"]


class Scanning:
    """A scanner for the life of a worker.

    The arguments are those of :class:`SyncScanner`. ``scanner`` takes one that is open already, such as a double in
    tests. """

    def __init__(self, app: Celery | None = None, *, scanner: SyncScanner | None = None, **settings: Any) -> None:
        self._scanner = scanner
        self._settings = settings
        self._lock = threading.Lock()
        self._app = app
        # Strong, since nobody else holds on to the method.
        worker_init.connect(self._load, weak=False)

    def _load(self, sender: Any = None, **_: Any) -> None:
        # The signal comes from the worker that starts; another application's is none of ours.
        if self._app is None or getattr(sender, "app", self._app) is self._app:
            self.scanner.info  # noqa: B018

    @property
    def scanner(self) -> SyncScanner:
        """The scanner; it is loaded when it is first asked for."""
        with self._lock:
            if self._scanner is None:
                self._scanner = SyncScanner(**self._settings)
            return self._scanner

    def scan(self, source: Any, *, name: str | None = None, timeout: float | None = 120) -> Report:
        """As :meth:`SyncScanner.scan`."""
        return self.scanner.scan(source, name=name, timeout=timeout)

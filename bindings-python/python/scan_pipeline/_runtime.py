"""Where the native module and this process meet: its jobs, its log, forks and the exit."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from . import _native
from .errors import from_native

Failure = tuple[str, str, bool, str]
Callback = Callable[[Any, "Failure | None"], None]

_log = logging.getLogger("scan_pipeline")


async def run(start: Callable[[Callback], _native.Job]) -> Any:
    """Awaits a job, however many event loops there are. Cancelling the task cancels the job."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, failure: Failure | None) -> None:
        try:
            loop.call_soon_threadsafe(_settle, future, result, failure)
        except RuntimeError:
            pass  # The loop was closed meanwhile, and nobody waits any more.

    job = start(tell)
    try:
        return await future
    finally:
        if not future.done() or future.cancelled():
            job.cancel()


def _settle(future: asyncio.Future[Any], result: Any, failure: Failure | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(from_native(failure))


def wait(job: _native.Job) -> Any:
    """Waits for a job without a callback, while other threads run."""
    result, failure = job.wait()
    if failure is not None:
        raise from_native(failure)
    return result


class _Logs:
    """Fetches what the Rust side says, and gives it to ``logging``."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.level = 0

    def sync(self) -> None:
        """Tells the Rust side what is wanted, and sees to it that somebody fetches it."""
        # Everything below INFO of a library is too much to be kept for nobody.
        level = min(_log.getEffectiveLevel(), 255)
        if level != self.level:
            self.level = level
            _native.set_level(level)
        if self.thread is None:
            _native.start_logging()
            self.thread = threading.Thread(target=_fetch, name="scan_pipeline-logs", daemon=True)
            self.thread.start()

    def forget(self) -> None:
        """After a fork, in the child: the thread is the parent's."""
        self.thread = None


def _fetch() -> None:
    while (records := _native.next_records()) is not None:
        for level, target, message in records:
            name = target.replace("scan_pipeline_python", "scan_pipeline").replace("::", ".")
            own = name == "scan_pipeline" or name.startswith("scan_pipeline.")
            logger = logging.getLogger(name if own else f"scan_pipeline.{name}")
            try:
                logger.log(level, "%s", message)
            except Exception:
                # A handler that fails must not keep the rest from being logged; `logging` has said so itself.
                continue


logs = _Logs()


def _after_fork_in_child() -> None:
    _native.after_fork_in_child()
    logs.forget()


def _at_exit() -> None:
    _native.at_exit()
    if logs.thread is not None:
        logs.thread.join(timeout=1)


os.register_at_fork(
    before=_native.before_fork,
    after_in_parent=_native.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
atexit.register(_at_exit)

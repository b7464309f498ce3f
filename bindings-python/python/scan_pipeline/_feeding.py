"""Sources that have to be read, and may keep whoever reads them: each on a thread of its own.

The threads are daemons, so that one that is kept for ever keeps no interpreter from ending, as the threads of
asyncio's own pool would.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable

from . import _native, _source
from ._runtime import wait


class Feeding:
    """Work on a thread, and what it raised. The thread sees the caller's context variables."""

    def __init__(self, work: Callable[[], None], ended: Callable[[], object] | None = None) -> None:
        self.error: BaseException | None = None
        self._work, self._ended = work, ended
        context = contextvars.copy_context()
        arguments = (self._run,)
        self.thread = threading.Thread(target=context.run, args=arguments, name="scan_pipeline-source", daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as why:
            # Handed on to who waits for it, on another thread.
            self.error = why
        if self._ended is not None:
            self._ended()


def on_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Does something on a thread of its own. Cancelling stops the waiting alone."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if future.done():
            return
        if feeding.error is None:
            future.set_result(None)
        elif isinstance(feeding.error, StopIteration):
            # A future refuses it, since it would end whoever awaits it without a word.
            future.set_exception(RuntimeError("the source raised StopIteration"))
        else:
            future.set_exception(feeding.error)

    def ended() -> None:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass  # The loop was closed meanwhile, and nobody waits any more.

    feeding = Feeding(work, ended)
    feeding.thread.start()
    return future


def feed_sync(feed: _native.Feed, parts: Iterable[bytes]) -> None:
    """Hands parts over, and says that this was all only when the source said so."""
    iterator = iter(parts)
    try:
        for part in iterator:
            data = _source.part_of(part)
            taken = feed.try_send(data)
            if taken is False:
                taken = wait(feed.send(data))
            if not taken:
                return
        feed.finish()
    finally:
        if (close := getattr(iterator, "close", None)) is not None:
            close()

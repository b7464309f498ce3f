"""Handlers of the application's: from the Rust side's call to a callable, and back."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from . import _native
from .errors import HandlerError, ScanPipelineError
from .model import Report
from .tasks import ObjectRef, Scanned, StepContext, object_ref

Handler = Callable[[Scanned, StepContext], Any]


class Runner:
    """Runs handlers: async ones on the event loop that opened the pipeline, sync ones each on a thread of its own, of
    which there are as many as the pipeline has tasks at work. They keep no interpreter from ending."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # The loop itself keeps weak references to its tasks only.
        self.tasks: set[asyncio.Task[None]] = set()

    def dispatcher(self, handler: Handler) -> Callable[[str, _native.Call], None]:
        """What the native module calls. It must not wait, and must not raise."""
        is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)
        )

        def dispatch(request: str, call: _native.Call) -> None:
            try:
                if is_async:
                    self.loop.call_soon_threadsafe(self._start, handler, request, call)
                else:
                    # Not by the handler's repr, which may hold what nobody should read in a log.
                    arguments = (handler, request, call)
                    threading.Thread(
                        target=self._run, args=arguments, name="scan_pipeline-handler", daemon=True
                    ).start()
            except RuntimeError as why:
                # The loop is closed, or the interpreter ends: the next process that opens the store takes the step up.
                call.untried(f"the application stops: {why}")

        return dispatch

    def _run(self, handler: Handler, request: str, call: _native.Call) -> None:
        try:
            scanned, step = _request(request)
            call.begin()
            output = handler(scanned, step)
        except BaseException as why:
            _fail(call, why)
        else:
            if inspect.isawaitable(output):
                # A sync function that gives a coroutine, such as a lambda or functools.partial around one.
                try:
                    self.loop.call_soon_threadsafe(self._await, output, call)
                except RuntimeError as gone:
                    # Nothing of a coroutine has run before it is awaited.
                    if inspect.iscoroutine(output):
                        output.close()
                        call.untried(f"the application stops: {gone}")
                    else:
                        _tell(call, f"the application stops: {gone}", True)
            else:
                _done(call, output)

    def _start(self, handler: Handler, request: str, call: _native.Call) -> None:
        try:
            scanned, step = _request(request)
            call.begin()
            self._await(handler(scanned, step), call)
        except BaseException as why:
            _fail(call, why)

    def _await(self, output: Awaitable[Any], call: _native.Call) -> None:
        async def run() -> None:
            try:
                _done(call, await output)
            except asyncio.CancelledError:
                _tell(call, "the handler was cancelled", True)
                raise
            except BaseException as why:
                _fail(call, why)

        task = self.loop.create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

        def cancel() -> None:
            try:
                self.loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # The loop is closed, and the task with it.

        if not call.on_cancel(cancel):
            task.cancel()


def _request(text: str) -> tuple[Scanned, StepContext]:
    form = json.loads(text)
    step = form["step"]
    scanned = Scanned(form["task"], ObjectRef(**form["object"]), Report.from_dict(form["report"]))
    return scanned, StepContext(**{**step, "object": object_ref(step["object"])})


def _done(call: _native.Call, output: Any) -> None:
    try:
        text = json.dumps(output, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as why:
        # The effect has been had, so another call would have it twice, for the same answer.
        _tell(call, f"the handler returned what JSON cannot hold: {why}", False)
    else:
        call.done(text)


def _fail(call: _native.Call, why: BaseException) -> None:
    if isinstance(why, HandlerError):
        _tell(call, str(why), why.retryable, why.after)
        return
    cls = type(why)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    retryable = why.retryable if isinstance(why, ScanPipelineError) else True
    _tell(call, f"{name}: {why}", retryable)


def _tell(call: _native.Call, message: str, retryable: bool, after: float | None = None) -> None:
    # Half of a surrogate pair, as a cut text has it, is no text to anybody else.
    call.fail(message.encode("utf-8", "backslashreplace").decode("utf-8"), retryable, after)

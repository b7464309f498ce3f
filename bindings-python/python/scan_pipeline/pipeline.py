"""From an object or upload to the last action that follows from its scan, once."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

from . import _native, _source, tasks
from ._handlers import Handler, Runner
from ._runtime import logs, run
from .errors import ScanPipelineError
from .model import Report
from .scanner import Scanner, SyncScanner, _feed, settled
from .tasks import Processed, Progress, Resumed, Task, Worked
from .workflow import Buckets, Workflow

__all__ = ["Pipeline", "Upload", "Worker"]

_log = logging.getLogger(__name__)
_H = TypeVar("_H", bound=Handler)
_LEAVE = "leave"
_open: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _databases(table: Mapping[str, Any]) -> frozenset[str]:
    """The files of SQLite in a configuration."""
    urls = (str(table.get(name, {}).get("url", "")) for name in ("store", "queue"))
    paths = (url.removeprefix("sqlite://") for url in urls)
    return frozenset(os.path.realpath(path) for path in paths if path and "://" not in path)


class Pipeline:
    """The whole path: scan, record, and run the workflow that follows from the verdict, each step once.

    >>> pipeline = (
    ...     Pipeline(store="sqlite:///var/lib/app/scan.db", scanner=scanner, buckets={"incoming": "file:///srv/incoming"})
    ...     .on("clean", Workflow("release").then(tag(), move_to("file:///srv/clean")))
    ...     .on("infected", Workflow("isolate").then(move_to("file:///srv/infected")).parallel(record(), call("crm")))
    ...     .on("unscannable", None)
    ... )
    >>> @pipeline.handler("crm")
    ... async def crm(scanned, step):
    ...     return {"ticket": await open_ticket(scanned.report, key=step.idempotency_key)}
    >>> async with pipeline:
    ...     async for progress in pipeline.run("incoming"):
    ...         print(progress)

    Set it up before a fork if you like, and open it after: each process has its own connections. The scanner is shared.
    """

    def __init__(
        self,
        *,
        store: str,
        scanner: Scanner | SyncScanner | None = None,
        buckets: Mapping[str, str | Mapping[str, Any]] | None = None,
        queue: str | None = None,
        accept_unproven: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """``store`` is an address such as ``sqlite:///var/lib/app/scan.db`` or ``postgres://...``, and so is ``queue``,
        for :meth:`work`. ``buckets`` gives addresses short names. ``settings`` are those of the configuration file, for
        what has no argument here, such as ``{"limits": {"concurrency": 4}}``. Without a scanner, its ``[engine]`` is
        loaded.

        Nothing is checked before :meth:`open`.
        """
        self._scanner = scanner
        self._settings = dict(settings or {})
        self._settings["store"] = {**self._settings.get("store", {}), "url": store}
        if queue is not None:
            self._settings["queue"] = {**self._settings.get("queue", {}), "url": queue}
        self._buckets = {**self._settings.get("buckets", {}), **(buckets or {})}
        self._workflows: dict[str, Workflow] = {}
        self._policy: dict[str, Any] = dict(self._settings.get("policy", {}))
        if accept_unproven:
            self._policy["accept_unproven"] = True
        self._handlers: dict[str, Handler] = {}
        self._native: _native.Pipeline | None = None
        self._pid = 0
        self._files: frozenset[str] = frozenset()

    def on(
        self,
        verdict: Literal["clean", "infected", "unscannable"],
        workflow: Workflow | None,
        *,
        reason: str | None = None,
    ) -> Pipeline:
        """Says what follows from a verdict; ``None`` is nothing, and the object stays where it is. With ``reason`` it
        is for what is unscannable for that reason, such as ``"encrypted"``."""
        if verdict not in ("clean", "infected", "unscannable"):
            raise ValueError(f"there is no verdict {verdict!r}: clean, infected or unscannable")
        name = self._add(workflow)
        if reason is None:
            self._policy[verdict] = name
        elif verdict == "unscannable":
            self._policy["unscannable_for"] = {**self._policy.get("unscannable_for", {}), reason: name}
        else:
            raise ValueError("a reason goes with unscannable only")
        return self

    def on_findings(
        self, workflow: Workflow | None, *, detectors: Iterable[str] = (), min_confidence: float = 0.0
    ) -> Pipeline:
        """Says what follows when it is clean, and sensitive data was found. The first that matches counts."""
        rule: dict[str, Any] = {"workflow": self._add(workflow), "min_confidence": float(min_confidence)}
        if names := list(detectors):
            rule["detectors"] = names
        self._policy["findings"] = [*self._policy.get("findings", ()), rule]
        return self

    def handler(self, name: str) -> Callable[[_H], _H]:
        """A decorator: this callable is the handler that ``call(name)`` names.

        It is called with (:class:`Scanned`, :class:`StepContext`), and gives what JSON can hold. It may be async, and
        runs on the event loop that opened the pipeline, or sync, and runs on a thread. It may be called again after it
        had its effect, with the same ``step.idempotency_key``. What it raises goes into the journal with its class and
        message, and is retried as the step says, but for :class:`HandlerError` with ``retryable=False``.
        """

        def add(handler: _H) -> _H:
            if not callable(handler):
                raise TypeError(f"a handler is callable, and this is {type(handler).__name__}")
            self._handlers[name] = handler
            return handler

        return add

    def _add(self, workflow: Workflow | None) -> str:
        if workflow is None:
            return _LEAVE
        if not isinstance(workflow, Workflow):
            raise TypeError(f"a workflow is a Workflow or None, not {type(workflow).__name__}")
        known = self._workflows.setdefault(workflow.name, workflow)
        if known != workflow:
            raise ValueError(
                f"there is another workflow named {workflow.name!r}: the journal knows them by their names"
            )
        return workflow.name

    def table(self) -> dict[str, Any]:
        """The configuration that this is, as the file would have it."""
        buckets = Buckets(self._buckets)
        workflows = {name: workflow.table(buckets) for name, workflow in self._workflows.items()}
        return {
            **self._settings,
            "buckets": buckets.table,
            "policy": self._policy,
            "workflow": {**self._settings.get("workflow", {}), **workflows},
        }

    async def open(self) -> Pipeline:
        """Checks everything, and opens the store. Raises :class:`ConfigError` with every mistake, one a line."""
        if self._native is not None:
            raise ScanPipelineError("the pipeline is open already", kind="config")
        logs.sync()
        table = self.table()
        files = _databases(table)
        if any(one._files & files for one in _open if one._native is not None and one._pid != os.getpid()):
            why = (
                "the process that forked this one had the same SQLite database open, whose locks do not survive a "
                "fork: open the pipeline after the fork only, or close it before"
            )
            raise ScanPipelineError(why, kind="config")
        runner = Runner(asyncio.get_running_loop())
        dispatchers = {name: runner.dispatcher(handler) for name, handler in self._handlers.items()}
        engine = None if self._scanner is None else self._scanner._engine
        settings = json.dumps(table)
        self._native = await run(partial(_native.Pipeline.open, settings, os.getcwd(), dispatchers, engine))
        # Only now are the files there for certain.
        self._pid, self._files = os.getpid(), files | _databases(table)
        _open.add(self)
        return self

    async def close(self) -> None:
        """Waits for the workflows that have begun (``[run] drain``, 30 seconds), and closes the store."""
        native, self._native = self._native, None
        if native is not None:
            await run(native.close)

    async def __aenter__(self) -> Pipeline:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _opened(self) -> _native.Pipeline:
        logs.sync()
        if self._native is None:
            raise ScanPipelineError("the pipeline is not open: use it in `async with`", kind="closed")
        return self._native

    def explain(self) -> list[str]:
        """What it does, in lines for people."""
        return self._opened.explain()

    async def process(self, bucket: str, key: str) -> Processed:
        """Does everything that has to follow from an object, once; what is done already is not done again.

        Cancelling ends a scan. A workflow that has begun goes on, and :meth:`close` waits for it.
        """
        return tasks.processed(json.loads(await run(partial(self._opened.process, bucket, key))))

    async def process_upload(
        self, source: Any, *, name: str | None = None, id: str | None = None, size: int | None = None
    ) -> Upload:
        """Takes an upload in, scans it, puts the report on record, and runs what follows. Its content is there to be
        read after a verdict that the policy admits, and not before.

        ``source`` is what :meth:`Scanner.scan` takes. ``id`` is an identity of the application's: a second upload with
        it and the same ``name`` is the same task if it has the same bytes, and is refused otherwise. ``size`` is what
        was announced; it has to be just that. Steps that act on objects are skipped: an upload is none yet.
        """
        found, name = _source.classify(await settled(source), name)
        native, feed = self._opened, _native.Feed()
        return Upload(await _feed(feed, found, partial(native.process_upload, feed, name or "upload", id, size)))

    async def run(self, address: str) -> AsyncIterator[Progress]:
        """Processes every object under an address, such as ``s3://uploads/2026/``, or under a bucket's short name, and
        tells of each as it is through. The work goes on while you are busy with one, up to 64 objects ahead; leaving
        the loop stops it."""
        running = self._opened.run(address)
        try:
            while (text := await run(running.next)) is not None:
                yield tasks.progress(json.loads(text))
        finally:
            running.stop()

    async def resume(self) -> Resumed:
        """Takes up every task that was left in the middle, by this process or one that is gone."""
        form = json.loads(await run(self._opened.resume))
        errors = tuple((one["task"], tasks.error(one["error"])) for one in form["errors"])
        return Resumed(tuple(tasks.processed(one) for one in form["tasks"]), errors)

    async def task(self, id: str) -> Task | None:
        """What is on record of a task."""
        form = json.loads(await run(partial(self._opened.task, id)))
        return None if form is None else tasks.task(form)

    async def enqueue(self, bucket: str, key: str, *, etag: str | None = None, version: str | None = None) -> None:
        """Tells the workers of an object, by its bucket's address. They also take what S3 and others send by themselves."""
        message = {"bucket": bucket, "key": key, "etag": etag, "version": version}
        body = json.dumps({name: value for name, value in message.items() if value is not None})
        await run(partial(self._opened.enqueue, body))

    def work(self) -> Worker:
        """A worker in this process: it takes messages from the queue until it is stopped.

        >>> async with pipeline, pipeline.work() as worker:
        ...     await stopped.wait()
        """
        return Worker(self._opened.work())


class Worker:
    """Works on messages of the queue while it is entered, and afterwards has told what it did (``worked``)."""

    def __init__(self, native: _native.Work) -> None:
        self._native = native
        self._task: asyncio.Task[Worked] | None = None
        self.worked: Worked | None = None

    async def run(self) -> Worked:
        """Works until :meth:`stop` is called, or the task is cancelled."""
        work = asyncio.ensure_future(run(self._native.run))
        try:
            return Worked(**json.loads(await asyncio.shield(work)))
        except asyncio.CancelledError:
            # What has begun comes to its end, and the rest is given back.
            self._native.stop()
            await asyncio.wait({work})
            raise

    def stop(self) -> None:
        """Takes nothing new, and ends when what has begun has ended."""
        self._native.stop()

    async def __aenter__(self) -> Worker:
        # A queue that cannot be opened is said here, and not when the application ends.
        await run(self._native.open)
        self._task = asyncio.create_task(self.run())
        self._task.add_done_callback(_told)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._task is not None:
            self.worked = await self._task


def _told(work: asyncio.Task[Worked]) -> None:
    # Nobody may be waiting for it yet.
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.error("a worker has ended: %s", error)


class Upload:
    """An upload that was scanned, and its content behind the gate."""

    _CHUNK = 256 * 1024

    def __init__(self, native: _native.Upload) -> None:
        form = json.loads(native.info())
        self._native = native
        self.processed: Processed = tasks.processed(form["processed"])
        """The task on record."""
        self.report: Report = Report.from_dict(form["report"])
        """What the scan found."""
        self.admitted: bool = form["admitted"]
        """Whether the policy hands the content on."""

    async def read(self) -> bytes:
        """All of the content. Raises, with the kind ``denied``, unless the policy hands it on."""
        return b"".join([part async for part in self.stream()])

    async def stream(self) -> AsyncIterator[bytes]:
        """The content in parts, from its beginning. Raises as :meth:`read`."""
        offset = 0
        while part := await run(partial(self._native.read, offset, self._CHUNK)):
            yield part
            offset += len(part)

    async def store(self, bucket: str, key: str) -> tasks.ObjectRef:
        """Stores the content in one of the pipeline's buckets. Raises as :meth:`read`."""
        return tasks.ObjectRef(**json.loads(await run(partial(self._native.store, bucket, key))))

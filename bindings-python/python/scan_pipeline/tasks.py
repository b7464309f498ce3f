"""What a pipeline tells of its work, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import ScanPipelineError
from .model import Report

__all__ = ["ObjectRef", "Processed", "Progress", "Resumed", "Scanned", "StepContext", "StepRecord", "Task", "Worked"]


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object, and which state of it."""

    bucket: str
    key: str
    """Exactly: nothing in it is decoded or normalised."""
    version: str | None = None
    etag: str | None = None
    size: int | None = None
    modified: Any = None

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The journal of one step."""

    workflow: str
    step: str
    state: str
    """``running``, ``waiting``, ``done`` or ``failed``."""
    attempt: int
    output: Any
    """What the step gave, once it is done."""
    error: str | None
    """Its last error; a handler's has the class and the message of the exception."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is on record of an object or upload."""

    id: str
    object: ObjectRef
    state: str
    """``pending``, ``scanning``, ``handling``, ``done``, ``superseded``, ``gone`` or ``dead``."""
    attempts: int
    report: Report | None
    workflow: str | None
    place: ObjectRef | None
    """Where the object is now; ``None`` when it was deleted."""
    error: str | None
    steps: tuple[StepRecord, ...]

    def step(self, name: str) -> StepRecord:
        """The journal of a step, by its name."""
        for one in self.steps:
            if one.step == name:
                return one
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of an object."""

    task: Task
    repeated: bool
    """Everything had been done before; nothing was done now."""
    superseded: int
    """How many states of the object were passed over because newer ones took their place."""

    @property
    def report(self) -> Report | None:
        """What the scan found, if there was one."""
        return self.task.report


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened in a run."""

    event: Literal["done", "failed", "listing_failed"]
    """``failed`` is about one object, and the others go on; after ``listing_failed`` nothing follows."""
    processed: Processed | None = None
    object: ObjectRef | None = None
    """The object that failed, where it is known."""
    error: ScanPipelineError | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume found to do."""

    tasks: tuple[Processed, ...]
    errors: tuple[tuple[str, ScanPipelineError], ...]
    """Tasks that could not be taken up, by their ids."""


@dataclass(frozen=True, slots=True)
class Worked:
    """Messages that a worker has dealt with."""

    done: int
    retried: int
    dead: int
    abandoned: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a handler is called with: what was scanned, and what was found."""

    task: str
    object: ObjectRef
    """As it was scanned. Where it is now is ``step.object``."""
    report: Report


@dataclass(frozen=True, slots=True)
class StepContext:
    """The circumstances of one call of a handler."""

    workflow: str
    step: str
    attempt: int
    """1 for the first call."""
    idempotency_key: str
    """The same for every call of this step for this task, and for nothing else. Send it outward."""
    outputs: Mapping[str, Any]
    """Outputs of the steps before this one, by step."""
    object: ObjectRef | None
    """The object as it is now; ``None`` when it was deleted, and for uploads, which are no objects."""


def object_ref(form: dict[str, Any] | None) -> ObjectRef | None:
    """An object of its JSON form."""
    return None if form is None else ObjectRef(**form)


def task(form: dict[str, Any]) -> Task:
    """A task of its JSON form."""
    scanned = ObjectRef(**form["object"])
    place = {"here": scanned, "moved": object_ref(form["place"].get("object")), "deleted": None}
    return Task(
        id=form["id"],
        object=scanned,
        state=form["state"],
        attempts=form["attempts"],
        report=None if form["report"] is None else Report.from_dict(form["report"]),
        workflow=form["workflow"],
        place=place[form["place"]["place"]],
        error=form["error"],
        steps=tuple(
            StepRecord(
                workflow=step["workflow"],
                step=step["step"],
                state=step["state"],
                attempt=step["attempt"],
                output=(step["output"] or {}).get("value"),
                error=step["error"],
            )
            for step in form["steps"]
        ),
    )


def processed(form: dict[str, Any]) -> Processed:
    """What became of an object, of its JSON form."""
    return Processed(task(form["task"]), form["repeated"], form["superseded"])


def error(form: dict[str, Any]) -> ScanPipelineError:
    """An error of its JSON form."""
    return ScanPipelineError(form["message"], kind=form["kind"], retryable=form["retryable"])


def progress(form: dict[str, Any]) -> Progress:
    """What happened in a run, of its JSON form."""
    if form["event"] == "done":
        return Progress("done", processed=processed(form["processed"]))
    return Progress(form["event"], object=object_ref(form.get("object")), error=error(form["error"]))

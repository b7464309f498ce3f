"""What can go wrong. Every exception of this package is a :class:`ScanPipelineError`.

An exception is never a verdict: who gets one knows nothing about the file. The two exceptions that carry a verdict are
:class:`InfectedError` and :class:`UnscannableError`, which :meth:`Report.raise_for_verdict` raises.

Wrong types are Python's own ``TypeError`` and ``ValueError``, and an exception of a source (a file that is closed, a
generator that raises, a client that went away) comes through as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Report

__all__ = [
    "ConfigError",
    "DefinitionsError",
    "EngineError",
    "HandlerError",
    "InfectedError",
    "LimitError",
    "ScanPipelineError",
    "ScanTimeout",
    "UnscannableError",
]


class ScanPipelineError(Exception):
    """The base of all, and the class of what has none of its own (a bucket, a store, a closed scanner).

    ``kind`` is a stable word, the same in Rust, Python and Node, such as ``"gone"`` or ``"closed"``. ``retryable`` says
    whether the same call may succeed later without a change by the caller.
    """

    kind: str
    retryable: bool

    def __init__(self, message: str = "", *, kind: str = "engine", retryable: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        # Celery and multiprocessing carry exceptions as pickles.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ScanPipelineError], args: tuple[object, ...], state: dict[str, object]) -> ScanPipelineError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ScanPipelineError):
    """A setting cannot be used; the message has every mistake, one a line. Nothing was started."""


class DefinitionsError(ConfigError):
    """Signature databases are missing, empty or malformed, or changed while they were loaded."""


class EngineError(ScanPipelineError):
    """The engine failed, or what it needs ran short: memory, disk space, a temporary directory."""


class LimitError(ScanPipelineError):
    """A stream was larger than allowed and was not read to its end."""


class ScanTimeout(ScanPipelineError):
    """Nothing was scanned within the time allowed: the content did not come, or no thread was free."""


class HandlerError(ScanPipelineError):
    """What a handler raises to say what follows: another call, not before ``after`` seconds, or none any more."""

    after: float | None

    def __init__(self, message: str = "", *, retryable: bool = True, after: float | None = None) -> None:
        super().__init__(message, kind="handler", retryable=retryable)
        self.after = None if after is None else float(after)


class _VerdictError(ScanPipelineError):
    _kind = ""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message, kind=self._kind)
        self._report = report

    @property
    def report(self) -> Report:
        """The report. It does not travel through transports that keep the message of an exception alone (Celery's JSON)."""
        if self._report is None:
            raise LookupError("this exception came from another process, without its report")
        return self._report


class InfectedError(_VerdictError):
    """At least one signature matched. Never retryable."""

    _kind = "infected"


class UnscannableError(_VerdictError):
    """Something could not be scanned, so nobody knows whether it is clean. Never retryable: the same bytes give it again."""

    _kind = "unscannable"


_CLASSES: dict[str, type[ScanPipelineError]] = {
    cls.__name__: cls
    for cls in (ScanPipelineError, ConfigError, DefinitionsError, EngineError, LimitError, ScanTimeout)
}


def from_native(failure: tuple[str, str, bool, str]) -> ScanPipelineError:
    """The exception that the native module means."""
    cls, kind, retryable, message = failure
    return _CLASSES[cls](message, kind=kind, retryable=retryable)

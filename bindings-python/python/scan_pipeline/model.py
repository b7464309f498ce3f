"""What a scan tells: the words of the Rust model, field by field, as frozen dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, NoReturn

from .errors import InfectedError, UnscannableError

__all__ = [
    "Coverage",
    "DatabaseInfo",
    "EngineInfo",
    "Finding",
    "LimitsInForce",
    "Reason",
    "Report",
    "Status",
    "Threat",
    "Verdict",
]

Status = Literal["clean", "infected", "unscannable"]


@dataclass(frozen=True, slots=True)
class Threat:
    """A signature that matched."""

    signature: str
    """Its name, as the engine gives it."""
    layer_path: str
    """The layer that matched, such as ``outer.zip/inner.docx/word/document.xml``."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a layer is not proven to be scanned."""

    kind: str
    """A stable word: ``encrypted``, ``too_large``, ``too_deep``, ``too_many_files``, ``scan_size``, ``timed_out``,
    ``unsupported``, ``truncated_or_corrupt``, ``engine_reported``, ``unproven`` or ``no_malware_scan``."""
    layer_path: str
    """The layer, such as ``outer.zip/secret.txt``."""
    detail: str | None = None
    """More for a reader. Not stable."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion of a scan. It has no truth value, on purpose: "not infected" is not "clean".

    >>> bool(Verdict("clean"))
    Traceback (most recent call last):
        ...
    TypeError: a verdict is no yes or no: compare verdict.status, or call report.raise_for_verdict()
    """

    status: Status
    """``clean`` only with proof that everything was looked at; what was not is ``unscannable``."""
    threats: tuple[Threat, ...] = ()
    """What matched; never empty when infected."""
    reasons: tuple[Reason, ...] = ()
    """What was not proven to be scanned; never empty when unscannable, and an infected content can have them, too."""

    def __bool__(self) -> NoReturn:
        raise TypeError("a verdict is no yes or no: compare verdict.status, or call report.raise_for_verdict()")


@dataclass(frozen=True, slots=True)
class Finding:
    """Sensitive data in a layer, masked: what was matched cannot be read from it."""

    detector: str
    masked_match: str
    context: str
    layer_path: str
    byte_offset: int
    """Where it begins within the decoded layer, in bytes."""
    confidence: float
    """How sure the detector is, from 0 to 1."""
    raw_offset: int | None = None
    """Where it begins within the scanned bytes as they are, where that is known exactly."""
    tags: tuple[str, ...] = ()
    fingerprint: str = ""
    """The same for the same match wherever it is found with the same key; empty without one."""


@dataclass(frozen=True, slots=True)
class LimitsInForce:
    """How much the scan was allowed to cost, in bytes, counts and milliseconds."""

    max_file_size: int
    max_scan_size: int
    max_recursion: int
    max_files: int
    max_scan_time_ms: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much was looked at: the proof that a clean verdict needs."""

    proven: bool
    """The engine accounts for everything that it looked at."""
    started: bool
    """The engine looked at the file itself, in this scan."""
    layers: int
    bytes: int
    depth: int
    members: int
    """Members that containers announced and that were held against what was delivered."""
    trivial: bool
    """The file was too small to hold anything (5 bytes or fewer)."""
    gap_count: int
    """How much is not proven to be scanned, listed as a reason or not."""
    limits: LimitsInForce


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """One database file."""

    name: str
    version: int | None = None
    built: str | None = None
    """Build time, RFC 3339."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is: its software, its definitions, its settings."""

    name: str
    library: str
    """The version of its software, such as ``1.4.6``."""
    generation: str
    """Changes exactly when the definitions change."""
    settings: str = ""
    """A hash of every setting that a verdict may depend on."""
    functionality_level: int = 0
    signatures: int = 0
    definitions_built: str | None = None
    """The newest build time among the databases, RFC 3339."""
    databases: tuple[DatabaseInfo, ...] = ()

    def definitions_age(self, now: datetime | None = None) -> float | None:
        """Seconds since the newest database was built, where that is known."""
        if self.definitions_built is None:
            return None
        built = datetime.fromisoformat(self.definitions_built.replace("Z", "+00:00"))
        return ((now or datetime.now(timezone.utc)) - built).total_seconds()


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one scan."""

    verdict: Verdict
    coverage: Coverage
    engine: EngineInfo
    findings: tuple[Finding, ...] = ()
    findings_omitted: int = 0
    """Findings that there were beyond those listed."""
    sha256: str | None = None
    size: int | None = None
    file_type: str | None = None
    """The engine's name of the content's type, such as ``CL_TYPE_PDF``."""
    elapsed_ms: float = 0.0
    """Time from the start of the scan to its end, waiting not included."""

    def raise_for_verdict(self) -> None:
        """Returns if the verdict is clean.

        Raises :class:`InfectedError` or :class:`UnscannableError`, each with this report as ``.report``.
        """
        verdict = self.verdict
        if verdict.status == "infected":
            found = ", ".join(f"{threat.signature} in {threat.layer_path}" for threat in verdict.threats[:3])
            raise InfectedError(f"infected: {found}", self)
        if verdict.status != "clean":
            why = ", ".join(f"{reason.kind} in {reason.layer_path}" for reason in verdict.reasons[:3])
            raise UnscannableError(f"unscannable: {why}", self)

    @classmethod
    def from_dict(cls, form: dict[str, Any]) -> Report:
        """The report of a JSON form, such as the command line's or that of ``to_dict``."""
        verdict, coverage = form["verdict"], form["coverage"]
        # A clean form with reasons contradicts itself; the reasons win.
        status = "unscannable" if verdict["status"] == "clean" and verdict["reasons"] else verdict["status"]
        return cls(
            verdict=Verdict(
                status=_status(status),
                threats=tuple(Threat(**threat) for threat in verdict["threats"]),
                reasons=tuple(Reason(**reason) for reason in verdict["reasons"]),
            ),
            coverage=Coverage(**{**coverage, "limits": LimitsInForce(**coverage["limits"])}),
            engine=engine_info(form["engine"]),
            findings=tuple(
                Finding(**{**finding, "tags": tuple(finding.get("tags", ()))}) for finding in form.get("findings", ())
            ),
            findings_omitted=form.get("findings_omitted", 0),
            sha256=form["sha256"],
            size=form["size"],
            file_type=form["file_type"],
            elapsed_ms=form["elapsed_ms"],
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        """As :meth:`from_dict`, from JSON."""
        return cls.from_dict(json.loads(text))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with the same names as the command line's ``scan --json``."""
        form: dict[str, Any] = _plain(self)
        return form


def engine_info(form: dict[str, Any]) -> EngineInfo:
    """An engine of its JSON form."""
    databases = tuple(DatabaseInfo(**database) for database in form.get("databases", ()))
    return EngineInfo(**{**form, "databases": databases})


def _status(word: str) -> Status:
    if word == "clean":
        return "clean"
    # A word that is not known here must not be taken for clean by anybody.
    return "infected" if word == "infected" else "unscannable"


_OPTIONAL = {(Finding, "raw_offset"), (DatabaseInfo, "version"), (DatabaseInfo, "built")}
"""What Rust leaves out where it is not there."""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        return value
    fields = ((name, getattr(value, name)) for name in names)
    return {name: _plain(item) for name, item in fields if item is not None or (type(value), name) not in _OPTIONAL}

"""Malware scanning with proof, in process: files are clean only when everything in them was looked at.

>>> from scan_pipeline import SyncScanner
>>> with SyncScanner() as scanner:
...     report = scanner.scan(open("upload.zip", "rb"))
>>> report.verdict.status
'clean'

:class:`Scanner` is for asyncio and :class:`SyncScanner` for code that blocks. The framework integrations are
:mod:`scan_pipeline.fastapi`, :mod:`scan_pipeline.flask`, :mod:`scan_pipeline.django` and :mod:`scan_pipeline.celery`.
"""

from __future__ import annotations

try:
    from . import _native as _native
except ImportError as why:
    from ._missing import explain

    raise ImportError(explain(str(why))) from why

from ._health import Health
from .errors import (
    ConfigError,
    DefinitionsError,
    EngineError,
    HandlerError,
    InfectedError,
    LimitError,
    ScanPipelineError,
    ScanTimeout,
    UnscannableError,
)
from .model import (
    Coverage,
    DatabaseInfo,
    EngineInfo,
    Finding,
    LimitsInForce,
    Reason,
    Report,
    Threat,
    Verdict,
)
from .pipeline import Pipeline, Upload, Worker
from .scanner import Scanner, SyncScanner
from .settings import Limits
from .tasks import ObjectRef, Processed, Progress, Resumed, Scanned, StepContext, StepRecord, Task, Worked
from .workflow import Retry, Step, Workflow, call, copy_to, delete, email, move_to, notify, record, step, tag

__version__: str = _native.version

__all__ = [
    "ConfigError",
    "Coverage",
    "DatabaseInfo",
    "DefinitionsError",
    "EngineError",
    "EngineInfo",
    "Finding",
    "HandlerError",
    "Health",
    "InfectedError",
    "LimitError",
    "Limits",
    "LimitsInForce",
    "ObjectRef",
    "Pipeline",
    "Processed",
    "Progress",
    "Reason",
    "Report",
    "Resumed",
    "Retry",
    "ScanPipelineError",
    "ScanTimeout",
    "Scanned",
    "Scanner",
    "Step",
    "StepContext",
    "StepRecord",
    "SyncScanner",
    "Task",
    "Threat",
    "UnscannableError",
    "Upload",
    "Verdict",
    "Worked",
    "Worker",
    "Workflow",
    "call",
    "copy_to",
    "delete",
    "email",
    "move_to",
    "notify",
    "record",
    "step",
    "tag",
]

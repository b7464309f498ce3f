"""What the uploader gets to see, in the same words in every framework."""

from __future__ import annotations

from typing import Any

from .errors import InfectedError, LimitError, ScanPipelineError, ScanTimeout, UnscannableError

RETRY_AFTER = "5"


def problem(error: ScanPipelineError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of the answer to an upload that is not handed on.

    422 for what is infected or unscannable, 413 for what is too large, 408 for an upload that did not come, and 503 for
    a scan that failed: nothing is known about the file then, and the message, which may name paths, stays in the log.
    """
    if isinstance(error, InfectedError):
        threats = [
            {"signature": each.signature, "layer_path": each.layer_path} for each in error.report.verdict.threats
        ]
        return 422, {"error": "infected", "threats": threats}, {}
    if isinstance(error, UnscannableError):
        verdict = error.report.verdict
        reasons = [{"kind": each.kind, "layer_path": each.layer_path} for each in verdict.reasons]
        # The file itself, and not something in it.
        too_large = not error.report.coverage.started and all(each.kind == "too_large" for each in verdict.reasons)
        return (413 if too_large else 422), {"error": "unscannable", "reasons": reasons}, {}
    if isinstance(error, LimitError):
        return 413, {"error": "too_large"}, {}
    if isinstance(error, ScanTimeout):
        return 408, {"error": "timeout"}, {}
    return 503, {"error": "not_scanned"}, {"Retry-After": RETRY_AFTER}

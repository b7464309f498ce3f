"""The fail-open catalogue through the binding: every field of every report is that of the Rust core."""

from __future__ import annotations

import asyncio
import pathlib
import re
from typing import Any

import pytest
from conftest import DEFINITIONS

from scan_pipeline import Report, Scanner, SyncScanner

ALLOWED = {
    "clean": {"clean"},
    "infected": {"infected"},
    "never_clean": {"infected", "unscannable"},
    "odd": {"clean", "unscannable"},
    "unreadable": {"clean", "unscannable"},
    "rewritten": {"clean", "infected"},
}


def comparable(report: Report) -> dict[str, Any]:
    """What the table has: all but the time it took, the hash of settings, and when the test definitions were written."""
    form = report.to_dict()
    assert form.pop("elapsed_ms") >= 0
    for name in ("settings", "definitions_built", "databases"):
        assert form["engine"].pop(name), name
    return form


def settled(form: dict[str, Any]) -> dict[str, Any]:
    """libclamav hands over the parts of a mail in no stable order, so their numbers differ from scan to scan."""
    verdict = form["verdict"]
    if form["file_type"] != "CL_TYPE_MAIL":
        return form
    numberless = {
        what: sorted(
            ({**one, "layer_path": re.sub(r"/#\d+", "/#", one["layer_path"])} for one in verdict[what]), key=str
        )
        for what in ("threats", "reasons")
    }
    return {**form, "verdict": {**verdict, **numberless}}


def check(report: Report, expected: dict[str, Any], wrong: list[str]) -> None:
    name = expected["name"]
    if report.verdict.status not in ALLOWED[expected["truth"]]:
        wrong.append(f"{name}: {report.verdict} is not true of it ({expected['truth']})")
    if settled(said := comparable(report)) != settled(expected["report"]):
        wrong.append(f"{name}: {said} instead of {expected['report']}")


def test_every_fixture_as_bytes(
    scanner: SyncScanner, catalogue: pathlib.Path, expectations: list[dict[str, Any]]
) -> None:
    wrong: list[str] = []
    for expected in expectations:
        name = expected["name"]
        check(scanner.scan((catalogue / name).read_bytes(), name=name), expected, wrong)
    assert not wrong, f"{len(wrong)} of {len(expectations)}:\n" + "\n".join(wrong)


async def test_every_fixture_as_a_file_and_as_a_stream(
    catalogue: pathlib.Path, expectations: list[dict[str, Any]]
) -> None:
    wrong: list[str] = []

    async def parts(path: pathlib.Path) -> Any:
        with path.open("rb") as file:
            while part := file.read(1000):
                yield part
                await asyncio.sleep(0)

    async with Scanner.open(DEFINITIONS, threads=2) as scanner:
        for expected in expectations:
            if expected["beyond_default_limits"]:
                continue
            path = catalogue / expected["name"]
            check(await scanner.scan(path), expected, wrong)
            check(await scanner.scan(parts(path), name=path.name), expected, wrong)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("status", ["clean", "infected", "unscannable"])
def test_a_report_comes_back_from_its_json(
    scanner: SyncScanner, catalogue: pathlib.Path, expectations: list[dict[str, Any]], status: str
) -> None:
    names = [e["name"] for e in expectations if e["report"]["verdict"]["status"] == status]
    assert names
    for name in names[:20]:
        report = scanner.scan(catalogue / name)
        assert Report.from_dict(report.to_dict()) == report

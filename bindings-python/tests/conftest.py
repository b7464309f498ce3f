"""What the tests share. `scripts/python.sh` builds everything they need and names it in the environment."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scan_pipeline import Limits, Pipeline, SyncScanner

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFINITIONS = ROOT / "scan-pipeline" / "definitions"
CLEAN = b"Dear Sir or Madam, yours sincerely"
Make = Callable[..., Pipeline]


@pytest.fixture(scope="session")
def catalogue() -> pathlib.Path:
    """The folder that `cargo run --example fixtures` writes."""
    return pathlib.Path(os.environ["SCAN_PIPELINE_FIXTURES"])


@pytest.fixture(scope="session")
def expectations(catalogue: pathlib.Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads((catalogue / "expectations.json").read_text())["fixtures"]
    assert len(table) > 250
    return table


@pytest.fixture(scope="session")
def scanner() -> Iterator[SyncScanner]:
    with SyncScanner(DEFINITIONS, threads=2) as scanner:
        yield scanner


@pytest.fixture(scope="session")
def small_scanner() -> Iterator[SyncScanner]:
    """One that takes a mebibyte and no more."""
    with SyncScanner(DEFINITIONS, threads=1, limits=Limits(max_file_size="1MB")) as scanner:
        yield scanner


@pytest.fixture
def folders(tmp_path: pathlib.Path) -> dict[str, pathlib.Path]:
    folders = {name: tmp_path / name for name in ("incoming", "clean", "infected")}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture
def make(scanner: SyncScanner, tmp_path: pathlib.Path, folders: dict[str, pathlib.Path]) -> Make:
    def make(**more: Any) -> Pipeline:
        # Files that were written a moment ago are waited for otherwise.
        settings = {"limits": {"settle": "0ms"}, **more.pop("settings", {})}
        buckets = {name: f"file://{folder}" for name, folder in folders.items()}
        return Pipeline(
            store=f"sqlite://{tmp_path}/scan.db", scanner=scanner, buckets=buckets, settings=settings, **more
        )

    return make


def put(folder: pathlib.Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def marker() -> bytes:
    """What the test definitions find; put together here, so that no scanner finds this file."""
    return "".join(["scan-pipeline-", "test-marker-", "7f3a9c51", "d2e84b60"]).encode()


def eicar() -> bytes:
    return "".join([r"X5O!P%@AP[4\PZX54(P^)7CC)7}$", "EICAR-STANDARD-", "ANTIVIRUS-TEST-", "FILE!", "$H+H*"]).encode()

"""The cookbook says nothing that is not so: its examples run, or at least hold up before mypy."""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from conftest import DEFINITIONS, ROOT

from scan_pipeline import LimitError, ScanPipelineError, UnscannableError
from scan_pipeline._missing import explain
from scan_pipeline.testing import FakeScanner, FakeSyncScanner, unscannable

README = (ROOT / "bindings-python" / "README.md").read_text()
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def example(words: str) -> str:
    found = [text for text in EXAMPLES if words in text]
    assert len(found) == 1, f"{words!r} stands in {len(found)} examples"
    return found[0]


def test_the_first_example_runs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "upload.zip").write_bytes(b"harmless content")
    program = EXAMPLES[0].replace('"/var/lib/clamav"', repr(str(DEFINITIONS)))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr


async def test_the_example_of_scanning_runs(capsys: pytest.CaptureFixture[str]) -> None:
    program = example("Scanner.open(limits=limits").replace("Scanner.open(", f"Scanner.open({str(DEFINITIONS)!r}, ")
    names: dict[str, Any] = {}
    exec(program.replace("some content", "card number 4111 1111 1111 1111"), names)
    await names["main"]()
    assert capsys.readouterr().out.startswith("credit_card ")


def test_the_examples_for_tests_run() -> None:
    exec(example("FakeSyncScanner(lambda"), {})


def test_the_other_examples_are_python() -> None:
    for text in EXAMPLES:
        compile(text, "README.md", "exec")


async def test_doubles_take_what_scanners_take(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"this is infected")
    sync, scanner = FakeSyncScanner(), FakeScanner(max_size=100)

    async def parts() -> Any:
        yield b"this is "
        yield b"infected"

    async def endless() -> Any:
        while True:
            yield b"x"

    with path.open("rb") as file:
        file.seek(3)
        for source in (path, path.read_bytes(), bytearray(path.read_bytes()), file, file.fileno(), [b"infected"]):
            assert sync.scan(source).verdict.status == "infected"
            assert (await scanner.scan(source)).verdict.status == "infected"
        assert file.tell() == 3
    assert (await scanner.scan(parts())).verdict.status == "infected"
    with pytest.raises(LimitError):
        await scanner.scan(endless())
    for wrong in ("text", None, parts()):
        with pytest.raises(TypeError):
            sync.scan(wrong)
    with pytest.raises(UnscannableError):
        FakeSyncScanner(lambda data, name: unscannable(name)).scan(b"x").raise_for_verdict()
    assert sync.health().ok and (await scanner.health()).ok and not sync.refresh_definitions()
    sync.close()
    await scanner.close()
    with pytest.raises(ScanPipelineError, match="closed"):
        sync.scan(b"x")
    with pytest.raises(ScanPipelineError, match="closed"):
        await scanner.scan(b"x")


def test_doubles_in_the_integrations() -> None:
    import httpx
    from fastapi import Depends, FastAPI, UploadFile
    from flask import Flask, request

    from scan_pipeline import fastapi, flask

    app = Flask(__name__)
    scanning = flask.Scanning(app, scanner=FakeSyncScanner())
    app.post("/upload")(lambda: {"stored": scanning.clean(request.files["file"]).read().decode()})
    client = app.test_client()
    for content, status in ((b"harmless", 200), (b"infected", 422), (b"unscannable", 422)):
        import io

        answer = client.post("/upload", data={"file": (io.BytesIO(content), "a.txt")})
        assert answer.status_code == status, answer.text

    other = fastapi.Scanning(scanner=FakeScanner())
    api = FastAPI(lifespan=other.lifespan)
    other.install(api)

    @api.post("/upload")
    async def upload(file: UploadFile = Depends(other.clean)) -> dict[str, str]:
        return {"stored": (await file.read()).decode()}

    async def ask(content: bytes) -> int:
        transport = httpx.ASGITransport(app=api)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as asked:
            return (await asked.post("/upload", files={"file": ("a.txt", content)})).status_code

    assert [asyncio.run(ask(content)) for content in (b"harmless", b"infected")] == [200, 422]


def test_what_is_said_without_libclamav(tmp_path: pathlib.Path) -> None:
    """The same package, with a native module that cannot be loaded."""
    import shutil

    import scan_pipeline

    package = tmp_path / "scan_pipeline"
    source = pathlib.Path(scan_pipeline.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    why = "libclamav.so.12: cannot open shared object file: No such file or directory"
    (package / "_native.py").write_text(f"raise ImportError({why!r})\n")
    done = subprocess.run(
        [sys.executable, "-c", "import scan_pipeline"], cwd=tmp_path, capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said == f"ImportError: {explain(why)}"
    for command in ("apt install libclamav", "dnf install clamav-lib", "apk add clamav-libs", "brew install clamav"):
        assert command in said
    assert "undefined symbol" in explain("undefined symbol: PyFoo") and "apt" not in explain("undefined symbol: PyFoo")

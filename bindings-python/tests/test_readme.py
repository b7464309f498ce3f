"""The cookbook says nothing that is not so: its examples run, or at least hold up before mypy."""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from conftest import DEFINITIONS, ROOT, marker

from scan_pipeline import LimitError, Pipeline, ScanPipelineError, UnscannableError
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


FRAMEWORKS = ("from fastapi import", "from flask import", "from celery import", "Pipeline(")


@pytest.mark.parametrize("words", FRAMEWORKS)
def test_the_examples_hold_up_before_mypy(tmp_path: pathlib.Path, words: str) -> None:
    found = [text for text in EXAMPLES if words in text]
    assert found
    for number, text in enumerate(found):
        (tmp_path / f"example_{number}.py").write_text(text)
    # Lines of examples are short of what a program would have, but no type may be wrong, and no name.
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "bindings-python" / "pyproject.toml"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_other_examples_are_python() -> None:
    for text in EXAMPLES:
        compile(text, "README.md", "exec")


def test_the_example_of_a_quarantine_runs(tmp_path: pathlib.Path) -> None:
    """Beginning with what a quarantine has in it; run twice, as after a restart."""
    places = {"/var/lib/app": tmp_path, "/srv/": f"{tmp_path}/"}
    text = example('pipeline.run("quarantine")')
    text = text.replace("Scanner.open()", f"Scanner.open({str(DEFINITIONS)!r}, threads=1)")
    for place, other in places.items():
        assert place in text
        text = text.replace(place, str(other))
    # Files that were written a moment ago are waited for otherwise.
    text = text.replace("scanner=scanner,", 'scanner=scanner, settings={"limits": {"settle": "0ms"}},')
    for name in ("quarantine", "clean", "infected"):
        (tmp_path / name).mkdir()
    contents = {"letter.txt": b"harmless content", "bad.txt": marker()}
    for name, content in contents.items():
        (tmp_path / "quarantine" / name).write_bytes(content)
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "ListingFailed" not in done.stdout
        assert (tmp_path / "clean" / "letter.txt").read_bytes() == contents["letter.txt"]
        assert (tmp_path / "infected" / "bad.txt").read_bytes() == contents["bad.txt"]
        assert not [each for each in (tmp_path / "quarantine").iterdir() if not each.name.startswith(".")]


async def test_doubles_say_where_they_are_of_no_use(tmp_path: pathlib.Path) -> None:
    for double in (FakeScanner(), FakeSyncScanner()):
        pipeline = Pipeline(store=f"sqlite://{tmp_path}/scan.db", scanner=double)
        with pytest.raises(TypeError, match="a double has no engine"):
            await pipeline.on("clean", None).open()


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
    said = imported(tmp_path)
    assert said == f"ImportError: {explain(why)}"
    for command in ("apt install libclamav", "dnf install clamav-lib", "apk add clamav-libs", "brew install clamav"):
        assert command in said
    for other in (
        "undefined symbol: PyFoo",
        "libssl.so.3: cannot open shared object file: No such file or directory",
        "/usr/lib/libclamav.so.12: version `CLAMAV_PUBLIC' not found (required by _native.abi3.so)",
        "/opt/_native.abi3.so: undefined symbol: cl_scanmap_callback",
        "libclamav.so.12: cannot open shared object file: Permission denied",
    ):
        assert other in explain(other) and "apt" not in explain(other)
        assert ("version 1.4" in explain(other)) == ("clamav" in other or "cl_" in other)


def imported(folder: pathlib.Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "import scan_pipeline"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment or {},
    )
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the names are those of Linux")
def test_what_the_loader_says(tmp_path: pathlib.Path) -> None:
    """The native module itself, with the name of a library that it needs overwritten, and with one that is another."""
    import shutil

    import scan_pipeline

    source = pathlib.Path(scan_pipeline.__file__).parent
    shutil.copytree(source, tmp_path / "scan_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    native = tmp_path / "scan_pipeline" / "_native.abi3.so"
    binary = native.read_bytes()
    needed = sorted(set(re.findall(rb"libclamav\.so\.\d+", binary)))
    assert len(needed) == 1
    # Of the same length, so that everything stays in its place.
    absent = needed[0][:-2] + b"99"
    native.write_bytes(binary.replace(needed[0] + b"\0", absent + b"\0"))
    missing = explain(f"{absent.decode()}: cannot open shared object file: No such file or directory")
    assert imported(tmp_path) == f"ImportError: {missing}" and "apt install" in missing
    # A library of this name that has nothing of libclamav in it.
    native.write_bytes(binary)
    stub = tmp_path / "libraries" / needed[0].decode()
    stub.parent.mkdir()
    (tmp_path / "stub.c").write_text("int scan_pipeline_stub;\n")
    subprocess.run(["cc", "-shared", "-o", str(stub), f"-Wl,-soname,{stub.name}", str(tmp_path / "stub.c")], check=True)
    said = imported(tmp_path, {"LD_LIBRARY_PATH": str(stub.parent)})
    assert "needs its version 1.4" in said and "apt" not in said

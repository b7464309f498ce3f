"""The integrations under the real frameworks, over HTTP: clean, infected, encrypted, oversize and aborted uploads."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import DEFINITIONS, marker
from servers import APPS, free_port, python, running

CLEAN = b"Dear Sir or Madam, " * 1000
INFECTED = CLEAN + marker()
OVERSIZE = bytes((1 << 20) + 1)
ENCRYPTED = "hidden-zipcrypto.zip"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("server") / "log"


@contextlib.contextmanager
def serving(command: list[str], port: int, log: pathlib.Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server, and what its views were given while it ran: the clean uploads, and nothing of those that broke off."""
    stored = log.with_name(f"stored-{port}")
    with running(command, port, log, {"STORED": str(stored), **(env or {})}) as url:
        yield url
    # It has ended by now, and so has every request.
    names = {line.split(" ")[0] for line in stored.read_text().splitlines()}
    assert "letter.txt" in names, "no view was called at all"
    assert names == {"letter.txt"}, stored.read_text()


@pytest.fixture(scope="module")
def fastapi(log: pathlib.Path) -> Iterator[str]:
    port = free_port()
    with serving(python("uvicorn", "fastapi_app:app", "--port", str(port)), port, log) as url:
        yield url


def gunicorn(app: str, port: int) -> list[str]:
    return python("gunicorn", "--preload", "-w", "4", "-b", f"127.0.0.1:{port}", app)


@pytest.fixture(scope="module")
def flask(log: pathlib.Path) -> Iterator[str]:
    port = free_port()
    with serving(gunicorn("flask_app:app", port), port, log) as url:
        yield url


@pytest.fixture(scope="module")
def django_streaming(log: pathlib.Path) -> Iterator[str]:
    port = free_port()
    with serving(gunicorn("django_app", port), port, log, {"STREAMING": "1"}) as url:
        yield url


@pytest.fixture(scope="module")
def django_form(log: pathlib.Path) -> Iterator[str]:
    port = free_port()
    with serving(gunicorn("django_app", port), port, log) as url:
        yield url


def send(url: str, content: bytes, name: str = "letter.txt", field: str = "file") -> httpx.Response:
    return httpx.post(url, files={field: (name, content)}, timeout=60)


def abort(url: str, field: str = "file") -> None:
    """Announces an upload of harmless bytes, sends a part of it, and goes away."""
    place = urlsplit(url)
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="cut.bin"\r\n\r\n'.encode()
    with socket.create_connection((str(place.hostname), int(place.port or 0))) as connection:
        connection.sendall(
            f"POST {place.path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: 900000\r\n\r\n".encode()
            + head
            + CLEAN * 40
        )


def check(url: str, encrypted: bytes, refused: int, too_large: int, log: pathlib.Path, field: str = "file") -> None:
    clean = send(url, CLEAN, field=field)
    assert (clean.status_code, clean.json()["stored"]) == (200, len(CLEAN)), clean.text + log.read_text()
    assert clean.json()["name"] == "letter.txt"
    for content, name, status, word in (
        (INFECTED, "letter.txt", refused, "infected"),
        (encrypted, "salaries.zip", refused, "unscannable"),
        (OVERSIZE, "large.bin", too_large, "unscannable"),
    ):
        answer = send(url, content, name, field=field)
        assert answer.status_code == status, f"{name}: {answer.status_code} {answer.text}\n{log.read_text()}"
        assert "stored" not in answer.text
        if status == 422:
            assert answer.json()["error"] == word
    for _ in range(5):
        abort(url, field)
    assert send(url, CLEAN, field=field).status_code == 200


@pytest.fixture
def encrypted(catalogue: pathlib.Path) -> bytes:
    return (catalogue / ENCRYPTED).read_bytes()


def test_fastapi(fastapi: str, encrypted: bytes, log: pathlib.Path) -> None:
    check(f"{fastapi}/upload", encrypted, 422, 413, log)
    check(f"{fastapi}/avatar", encrypted, 422, 413, log, field="picture")
    assert httpx.post(f"{fastapi}/upload").status_code == 422  # No file at all, which is FastAPI's to say.


def test_fastapi_with_a_body_that_is_the_file(fastapi: str, encrypted: bytes) -> None:
    url = f"{fastapi}/raw/letter.txt"
    assert httpx.put(url, content=CLEAN).json() == {"name": "letter.txt", "stored": len(CLEAN)}
    infected = httpx.put(url, content=INFECTED)
    assert infected.status_code == 422
    assert infected.json()["threats"] == [
        {"signature": "ScanPipeline.Test.Marker.UNOFFICIAL", "layer_path": "letter.txt"}
    ]
    unscannable = httpx.put(url, content=encrypted)
    assert unscannable.status_code == 422 and unscannable.json()["reasons"][0]["kind"] == "encrypted"
    assert httpx.put(url, content=OVERSIZE).status_code == 413
    place = urlsplit(url.replace("letter.txt", "cut.bin"))
    with socket.create_connection((str(place.hostname), int(place.port or 0))) as connection:
        connection.sendall(
            f"PUT {place.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n".encode() + CLEAN
        )
    assert httpx.put(url, content=CLEAN).status_code == 200


def test_flask_under_gunicorn(flask: str, encrypted: bytes, log: pathlib.Path) -> None:
    check(f"{flask}/upload", encrypted, 422, 413, log)
    # The workers did not load the engine: their parent did.
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: send(f"{flask}/upload", INFECTED if n % 2 else CLEAN), range(200)))
    assert [answer.status_code for answer in answers] == [200, 422] * 100
    pids = {answer.json()["pid"] for answer in answers[::2]}
    assert len(pids) > 1 and all(answer.json()["loaded_by"] not in pids for answer in answers[::2])


def test_django_with_the_upload_handler(django_streaming: str, encrypted: bytes, log: pathlib.Path) -> None:
    check(f"{django_streaming}/upload", encrypted, 400, 400, log)


@pytest.mark.parametrize("missing", [0, 9, 5000])
@pytest.mark.parametrize("read_before", [False, True])
def test_django_completes_no_file_that_broke_off(missing: int, read_before: bool) -> None:
    """As servers do that say nothing of it: the body is over before all that was announced has come."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + CLEAN + b"\r\n--x--\r\n"
    code = """
        import io, os, pathlib, sys
        import django_app
        from django.core.handlers.wsgi import WSGIRequest
        from scan_pipeline.django import UploadRefused
        body, missing, read_before = sys.stdin.buffer.read(), int(sys.argv[1]), sys.argv[2] == "True"
        request = WSGIRequest({
            "REQUEST_METHOD": "POST", "PATH_INFO": "/upload", "CONTENT_TYPE": "multipart/form-data; boundary=x",
            "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body[:len(body) - missing]),
        })
        if read_before:
            request.body
        try:
            print([len(file.read()) for file in request.FILES.values()])
        except UploadRefused as why:
            print(why.error.kind)
    """
    environment = {**os.environ, "STREAMING": "1", "DEFINITIONS": str(DEFINITIONS), "STORED": os.devnull}
    command = [sys.executable, "-c", textwrap.dedent(code), str(missing), str(read_before)]
    done = subprocess.run(command, cwd=APPS, env=environment, input=form, capture_output=True, timeout=60)
    assert done.stdout.decode().strip() == ("[]" if missing else f"[{len(CLEAN)}]"), done.stderr.decode()


def test_django_scans_every_file_or_none() -> None:
    code = """
        import django_app
        from scan_pipeline.django import ScanningUploadHandler, UploadRefused
        try:
            print(ScanningUploadHandler().file_complete(7))
        except UploadRefused as why:
            print(why.error.kind)
    """
    environment = {**os.environ, "DEFINITIONS": str(DEFINITIONS), "STORED": os.devnull}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=APPS, env=environment, capture_output=True, timeout=60, text=True)
    assert done.stdout.strip() == "closed", done.stderr


def test_django_with_the_validator(django_form: str, encrypted: bytes, log: pathlib.Path) -> None:
    check(f"{django_form}/form", encrypted, 422, 422, log)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    # Debian's redis-server is a service as well, which nobody wants from a test. What it runs is in redis-tools, under
    # the name of one of its tools, and asks for its own name.
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    assert program, "redis is missing: scripts/setup.sh installs it"
    with running(command, port, folder / "log", executable=program):
        yield f"redis://127.0.0.1:{port}/0"


def test_celery_with_a_broker(broker: str, catalogue: pathlib.Path, tmp_path: pathlib.Path, log: pathlib.Path) -> None:
    import signal

    from scan_pipeline import InfectedError, UnscannableError

    os.environ.update(BROKER=broker, DEFINITIONS=str(DEFINITIONS))
    sys.path.insert(0, str(APPS))
    from celery_app import app, scan_upload

    clean, infected, oversize = tmp_path / "letter.txt", tmp_path / "infected.txt", tmp_path / "large.bin"
    clean.write_bytes(CLEAN)
    infected.write_bytes(INFECTED)
    oversize.write_bytes(OVERSIZE)
    output = (tmp_path / "worker.log").open("wb")
    command = python("celery", "-A", "celery_app", "worker", "--pool", "prefork", "-c", "2", "-l", "INFO")
    worker = subprocess.Popen(command, cwd=APPS, stdout=output, stderr=subprocess.STDOUT)
    try:
        said = [scan_upload.delay(str(clean)) for _ in range(20)]
        answers = [each.get(timeout=90) for each in said]
        assert {answer["status"] for answer in answers} == {"clean"}
        # In the main process, so that the others share its memory.
        assert all(answer["loaded_before"] for answer in answers)
        assert worker.pid not in {answer["pid"] for answer in answers}
        with pytest.raises(InfectedError, match="infected.txt"):
            scan_upload.delay(str(infected)).get(timeout=60)
        for path, kind in ((catalogue / ENCRYPTED, "encrypted"), (oversize, "too_large")):
            with pytest.raises(UnscannableError, match=kind):
                scan_upload.delay(str(path)).get(timeout=60)
        assert scan_upload.delay(str(clean)).get(timeout=60)["status"] == "clean"
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        output.close()
        app.close()

"""What a process does around scans: loops, threads, forks, logs, the exit, and closed scanners."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import DEFINITIONS, eicar, marker

import scan_pipeline
from scan_pipeline import (
    ConfigError,
    DefinitionsError,
    InfectedError,
    Limits,
    Scanner,
    ScanPipelineError,
    SyncScanner,
    UnscannableError,
    Verdict,
)

SLOW = bytes(range(256)) * (60 << 12)
"""60 MiB in one layer: there is no place in it where a scan could be cancelled."""


def run(code: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A program of its own, whose failure is the test's."""
    prelude = f"""
        import asyncio, os, pathlib, sys, threading, time
        from scan_pipeline import *
        DEFINITIONS = pathlib.Path({str(DEFINITIONS)!r})
        MARKER = "".join(["scan-pipeline-", "test-marker-", "7f3a9c51", "d2e84b60"]).encode()
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(code)
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, "-X", "faulthandler", *warnings, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"exit {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert not done.stderr, done.stderr
    return done


def test_a_verdict_is_no_yes_or_no(scanner: SyncScanner) -> None:
    for content in (b"harmless content", marker()):
        verdict = scanner.scan(content).verdict
        with pytest.raises(TypeError, match="raise_for_verdict"):
            if verdict:
                pytest.fail("it has a truth value")
        with pytest.raises(TypeError):
            assert not verdict
    with pytest.raises(AttributeError):
        setattr(verdict, "status", "clean")  # noqa: B010


def test_raise_for_verdict(scanner: SyncScanner, catalogue: pathlib.Path) -> None:
    scanner.scan(b"harmless content").raise_for_verdict()
    with pytest.raises(InfectedError) as infected:
        scanner.scan(eicar(), name="eicar.com").raise_for_verdict()
    assert infected.value.report.verdict.threats[0].signature == "Eicar-Test-Signature.UNOFFICIAL"
    assert "eicar.com" in str(infected.value)
    with pytest.raises(UnscannableError) as unscannable:
        scanner.scan(catalogue / "hidden-zipcrypto.zip").raise_for_verdict()
    assert unscannable.value.report.verdict.reasons[0].kind == "encrypted"
    for error in (infected.value, unscannable.value):
        assert isinstance(error, ScanPipelineError) and not error.retryable
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.kind, str(again)) == (type(error), error.kind, str(error))
        assert again.report == error.report
        bare = type(error)(str(error))  # What is left of it in a transport that keeps the message alone.
        with pytest.raises(LookupError):
            bare.report.raise_for_verdict()


def test_definitions_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    malformed = tmp_path / "malformed.ndb"
    malformed.write_text("not a signature\n")
    for wrong in (empty, malformed, tmp_path / "missing"):
        with pytest.raises(DefinitionsError) as caught:
            SyncScanner(wrong)
        assert isinstance(caught.value, ConfigError) and caught.value.kind == "definitions"
        assert wrong.name in str(caught.value)
    settings: list[dict[str, Any]] = [
        {"threads": 0},
        {"limits": Limits(max_recursion=0)},
        {"limits": Limits(max_file_size="much")},
    ]
    for arguments in settings:
        with pytest.raises(ConfigError):
            SyncScanner(DEFINITIONS, **arguments)


async def test_a_closed_scanner_refuses(scanner: SyncScanner) -> None:
    opening = Scanner.open(DEFINITIONS, threads=1)
    async with opening as closed:
        assert (await closed.scan(marker())).verdict.status == "infected"
        assert closed.info == (await Scanner.open(DEFINITIONS, threads=1)).info
    with pytest.raises(ScanPipelineError, match="closed") as caught:
        await closed.scan(b"harmless content")
    assert caught.value.kind == "closed" and closed.closed
    sync = SyncScanner(DEFINITIONS, threads=1)
    sync.close()
    sync.close()
    with pytest.raises(ScanPipelineError, match="closed"):
        sync.scan(b"harmless content")
    with pytest.raises(ScanPipelineError, match="closed"):
        sync.info.library


def test_one_scanner_in_several_event_loops() -> None:
    async def opened() -> Scanner:
        return await Scanner.open(DEFINITIONS, threads=2)

    scanner = asyncio.run(opened())

    async def scan(content: bytes) -> str:
        reports = await asyncio.gather(*(scanner.scan(content) for _ in range(20)))
        return "".join({report.verdict.status for report in reports})

    def loop(content: bytes) -> str:
        return asyncio.run(scan(content))

    with ThreadPoolExecutor(4) as pool:
        contents = [marker(), b"harmless content"] * 10
        assert list(pool.map(loop, contents)) == ["infected", "clean"] * 10


def test_one_scanner_in_many_threads(scanner: SyncScanner) -> None:
    contents = [b"%d " % number + (marker() if number % 2 else b"harmless") for number in range(400)]
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda content: scanner.scan(content).verdict.status, contents))
    assert said == ["clean", "infected"] * 200


def test_what_the_engine_says_is_logged(caplog: pytest.LogCaptureFixture, catalogue: pathlib.Path) -> None:
    with caplog.at_level(logging.INFO, "scan_pipeline"):
        with SyncScanner(DEFINITIONS, threads=1) as scanner:
            scanner.scan(catalogue / "hidden-truncated.xz")
            wanted = {
                "scan_pipeline.clamav_core.engine": "definitions loaded",
                "scan_pipeline.libclamav": "premature end",
            }
            give_up = time.monotonic() + 20
            while wanted and time.monotonic() < give_up:
                said = {(record.name, record.getMessage()) for record in caplog.records}
                wanted = {
                    name: words
                    for name, words in wanted.items()
                    if not any(logger == name and words in message for logger, message in said)
                }
                time.sleep(0.01)
    assert not wanted, caplog.text


def _scan_in_child(scanner: SyncScanner, pipe: Any) -> None:
    said = [scanner.scan(content).verdict.status for content in (marker(), b"harmless content", SLOW[:100_000])]
    pipe.send((os.getpid(), said, asyncio.run(_scan_async())))
    pipe.close()


async def _scan_async() -> str:
    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        return (await scanner.scan(marker())).verdict.status


def test_a_forked_child_scans_with_the_parents_engine(scanner: SyncScanner) -> None:
    fork = multiprocessing.get_context("fork")
    assert scanner.scan(marker()).verdict.status == "infected"
    for _ in range(3):
        ours, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=_scan_in_child, args=(scanner, theirs))
        child.start()
        theirs.close()
        assert ours.poll(60), "the child does not answer"
        pid, said, other = ours.recv()
        assert pid == child.pid and said == ["infected", "clean", "clean"] and other == "infected"
        child.join(60)
        assert child.exitcode == 0
        assert scanner.scan(marker()).verdict.status == "infected"


def test_a_fork_in_the_middle_of_scans_waits_for_them() -> None:
    run(
        """
        scanner = SyncScanner(DEFINITIONS, threads=2)
        go_on, wrong = True, []
        def scan():
            while go_on:
                if scanner.scan(MARKER).verdict.status != "infected":
                    wrong.append("parent")
        threads = [threading.Thread(target=scan) for _ in range(4)]
        for thread in threads: thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                said = [scanner.scan(MARKER).verdict.status, scanner.scan(b"harmless content").verdict.status]
                os._exit(0 if said == ["infected", "clean"] else 7)
            _, status = os.waitpid(pid, 0)
            if os.waitstatus_to_exitcode(status) != 0:
                wrong.append(os.waitstatus_to_exitcode(status))
        go_on = False
        for thread in threads: thread.join()
        assert not wrong, wrong
        """
    )


def test_a_child_of_a_child() -> None:
    run(
        """
        scanner = SyncScanner(DEFINITIONS, threads=1)
        def scan(): return scanner.scan(MARKER).verdict.status == "infected"
        def child(depth):
            if depth == 0: return scan()
            pid = os.fork()
            if pid == 0: os._exit(0 if scan() and child(depth - 1) else 7)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and scan()
        assert child(3)
        """
    )


def test_a_child_that_ends_leaves_the_parents_files(tmp_path: pathlib.Path) -> None:
    run(
        """
        scanner = SyncScanner(DEFINITIONS, threads=1, temp_dir=sys.argv[1])
        scanner.scan(MARKER)
        before = set(os.listdir(sys.argv[1]))
        pid = os.fork()
        if pid == 0:
            scanner.scan(MARKER)
            del scanner
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert before <= set(os.listdir(sys.argv[1])), os.listdir(sys.argv[1])
        assert scanner.scan(bytes(3 << 20) + MARKER).verdict.status == "infected"
        """,
        str(tmp_path),
    )


@pytest.mark.parametrize("how", ["sync thread", "async task", "unfinished stream", "plain"])
def test_an_exit_in_the_middle_of_a_scan(how: str) -> None:
    began = time.monotonic()
    run(
        """
        import logging
        logging.basicConfig(level=logging.CRITICAL)
        SLOW = bytes(range(256)) * (60 << 12)
        how = sys.argv[1]
        scanner = SyncScanner(DEFINITIONS, threads=2)
        if how == "sync thread":
            threading.Thread(target=lambda: scanner.scan(SLOW), daemon=True).start()
            time.sleep(0.2)
        elif how == "async task":
            async def main():
                async with Scanner.open(DEFINITIONS) as scanner:
                    tasks = [asyncio.create_task(scanner.scan(SLOW)) for _ in range(4)]
                    await asyncio.sleep(0.1)
            asyncio.run(main())
        elif how == "unfinished stream":
            def never():
                yield b"a part"
                threading.Event().wait()
            threading.Thread(target=lambda: scanner.scan(never()), daemon=True).start()
            time.sleep(0.1)
        """,
        how,
    )
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("how", ["scan", "load", "refresh", "deadline"])
def test_a_fork_waits_for_what_was_cancelled(how: str, tmp_path: pathlib.Path) -> None:
    """libclamav goes on for a while after the caller has gone; a child that was forked meanwhile could never scan."""
    run(
        """
        import shutil
        SLOW = bytes(range(256)) * (60 << 12)
        how, folder = sys.argv[1:]
        shutil.copytree(DEFINITIONS, folder, dirs_exist_ok=True)
        def grow(name):
            with open(f"{folder}/{name}.hdb", "w") as database:
                for number in range(400_000):
                    database.write(f"{number:032x}:{1000 + number}:Made.Up.{number}\\n")
        scanner = SyncScanner(DEFINITIONS, threads=1)
        async def main():
            if how == "load":
                grow("made-up")
                work = Scanner.open(folder)._open()
            elif how == "refresh":
                used = await Scanner.open(folder)
                grow("made-up")
                work = used.refresh_definitions()
            else:
                used = await Scanner.open(DEFINITIONS, threads=1)
                # What is late is no matter of cancelling, and is left to itself, too.
                work = used.scan(SLOW, timeout=0.3 if how == "deadline" else None)
            task = asyncio.create_task(work)
            # Long enough to be inside of libclamav, and not to be through.
            await asyncio.wait({task}, timeout={"load": 0.1, "refresh": 0.1}.get(how, 0.4))
            assert how == "deadline" or not task.done()
            task.cancel()
            await asyncio.wait({task})
        asyncio.run(main())
        pid = os.fork()
        if pid == 0:
            try:
                said = [scanner.scan(MARKER).verdict.status, scanner.scan(b"harmless content").verdict.status]
                said.append(SyncScanner(DEFINITIONS, threads=1).scan(MARKER).verdict.status)
            except ScanPipelineError as why:
                os.write(2, f"{why}\\n".encode())
                os._exit(8)
            os._exit(0 if said == ["infected", "clean", "infected"] else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert scanner.scan(MARKER).verdict.status == "infected"
        """,
        how,
        str(tmp_path),
    )


def test_what_is_awaited_at_the_exit_is_refused(tmp_path: pathlib.Path) -> None:
    """An exit handler that was registered before ours runs after it."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AT_EXIT), str(DEFINITIONS), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["RuntimeError: the interpreter ends", "infected"], done.stderr


AT_EXIT = """
    import asyncio, atexit, sys
    def close():
        try:
            asyncio.run(pipeline.close())
        except RuntimeError as why:
            print(f"RuntimeError: {str(why).partition(':')[0]}")
        print(scanner.scan(b"".join([b"scan-pipeline-", b"test-marker-", b"7f3a9c51", b"d2e84b60"])).verdict.status)
    atexit.register(close)
    from scan_pipeline import *
    scanner = SyncScanner(sys.argv[1], threads=1)
    buckets = {"incoming": f"file://{sys.argv[2]}"}
    pipeline = Pipeline(store=f"sqlite://{sys.argv[2]}/scan.db", scanner=scanner, buckets=buckets)
    for verdict in ("clean", "infected", "unscannable"):
        pipeline.on(verdict, None)
    asyncio.run(pipeline.open())
"""


def test_a_source_that_stalls_keeps_no_interpreter() -> None:
    run(
        """
        def never():
            yield b"a part"
            threading.Event().wait()
        async def main():
            async with Scanner.open(DEFINITIONS, threads=1) as scanner:
                try:
                    await scanner.scan(never(), timeout=0.2)
                except ScanTimeout:
                    print("late")
        asyncio.run(main())
        try:
            SyncScanner(DEFINITIONS, threads=1).scan(never(), timeout=0.2)
        except ScanTimeout:
            print("late")
        """,
        timeout=30,
    )


def test_an_interrupt_ends_the_waiting() -> None:
    run(
        """
        import signal
        scanner = SyncScanner(DEFINITIONS, threads=1)
        SLOW = bytes(range(256)) * (90 << 12)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        class Alarm(Exception): pass
        def alarm(*_): raise Alarm
        signal.signal(signal.SIGALRM, alarm)
        try:
            scanner.scan(SLOW)
            raise SystemExit("it was not interrupted")
        except Alarm:
            pass
        assert scanner.scan(MARKER).verdict.status == "infected"
        """
    )


def test_newer_definitions_are_taken_up(tmp_path: pathlib.Path) -> None:
    database = tmp_path / "test.ndb"
    database.write_bytes((DEFINITIONS / "test.ndb").read_bytes())
    with SyncScanner(tmp_path, threads=1) as scanner:
        before = scanner.info
        assert scanner.refresh_definitions() is False
        assert scanner.scan(b"harmless content").verdict.status == "clean"
        with database.open("a") as file:
            file.write(f"More:0:*:{b'harmless content'.hex()}\n")
        assert scanner.refresh_definitions() is True
        assert scanner.scan(b"harmless content").verdict.status == "infected"
        assert scanner.info.generation != before.generation
        database.write_text("not a signature\n")
        with pytest.raises(ScanPipelineError):
            scanner.refresh_definitions()
        assert scanner.scan(b"harmless content").verdict.status == "infected"


def test_health(scanner: SyncScanner) -> None:
    health = scanner.health()
    assert health.ok, health.warnings
    assert health.engine == scanner.info and health.version == scan_pipeline.__version__
    # Debian has no libclamunrar; where it is there, nothing warns of it.
    assert health.unpacks_rar == (not any("RAR" in warning for warning in health.warnings))
    assert health.resident_memory and health.resident_memory > 10 << 20
    assert health.temp_dir_free and health.definitions_age is not None


async def test_health_async() -> None:
    async with Scanner.open(DEFINITIONS, threads=1) as scanner:
        assert (await scanner.health()).ok


def test_a_temp_dir_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ScanPipelineError):
        SyncScanner(DEFINITIONS, threads=1, temp_dir=tmp_path / "missing")


def test_verdicts_compare_by_value() -> None:
    assert Verdict("clean") == Verdict("clean") != Verdict("unscannable")


def test_a_sync_handler_that_never_ends_keeps_nobody(tmp_path: pathlib.Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "letter.txt").write_bytes(b"harmless content")
    run(
        """
        import logging
        logging.basicConfig(level=logging.CRITICAL)  # That the task failed is said, and is no news here.
        folder = sys.argv[1]
        async def main():
            async with Scanner.open(DEFINITIONS, threads=1) as scanner:
                workflow = Workflow("release").then(call("crm", retry=Retry(attempts=1), timeout=0.2))
                pipeline = Pipeline(
                    store=f"sqlite://{folder}/scan.db", scanner=scanner, buckets={"incoming":
                    f"file://{folder}/incoming"}, settings={"limits": {"settle": "0ms"}, "policy": {"infected": "leave",
                    "unscannable": "leave"}},
                ).on("clean", workflow)
                pipeline.handler("crm")(lambda scanned, step: threading.Event().wait())
                async with pipeline:
                    assert (await pipeline.process("incoming", "letter.txt")).task.state == "dead"
        asyncio.run(main())
        """,
        str(tmp_path),
    )

"""The pipeline from Python: what follows from a verdict, handlers of the application's, uploads, runs and workers."""

from __future__ import annotations

import asyncio
import os
import pathlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import DEFINITIONS, marker

from scan_pipeline import (
    ConfigError,
    HandlerError,
    LimitError,
    Pipeline,
    Processed,
    Retry,
    Scanned,
    Scanner,
    ScanPipelineError,
    StepContext,
    SyncScanner,
    Workflow,
    call,
    copy_to,
    delete,
    move_to,
    notify,
    record,
    step,
    tag,
)

CLEAN = b"Dear Sir or Madam, yours sincerely"
Make = Callable[..., Pipeline]


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


async def test_what_follows_from_each_verdict(
    make: Make, folders: dict[str, pathlib.Path], catalogue: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    put(folders["incoming"], "letter.txt", CLEAN)
    put(folders["incoming"], "bad.txt", CLEAN + marker())
    put(folders["incoming"], "salaries.zip", (catalogue / "hidden-zipcrypto.zip").read_bytes())
    reports = tmp_path / "reports"
    reports.mkdir()
    pipeline = (
        make()
        .on("clean", Workflow("release").then(tag(), move_to(f"file://{folders['clean']}", tags=True)))
        .on(
            "infected",
            Workflow("isolate").then(move_to("infected")).parallel(record(), record(f"file://{reports}", name="full")),
        )
        .on("unscannable", None)
    )
    async with pipeline:
        done = {one.processed.task.object.key: one.processed async for one in pipeline.run("incoming") if one.processed}
        assert {key: one.task.state for key, one in done.items()} == {
            "letter.txt": "done",
            "bad.txt": "done",
            "salaries.zip": "done",
        }
        assert {key: one.report.verdict.status for key, one in done.items() if one.report} == {
            "letter.txt": "clean",
            "bad.txt": "infected",
            "salaries.zip": "unscannable",
        }
        bad = done["bad.txt"].task
        assert bad.place and bad.place.bucket == f"file://{folders['infected']}"
        assert {step.step: step.state for step in bad.steps} == {"relocate": "done", "record": "done", "full": "done"}
        assert await pipeline.task(bad.id) == bad
        # And once more: nothing is done twice.
        again = [one async for one in pipeline.run("incoming")]
        assert [one.processed.repeated for one in again if one.processed] == [True]
        assert any("move the object to clean" in line for line in pipeline.explain())
    assert [name for name in os.listdir(folders["incoming"]) if not name.startswith(".")] == ["salaries.zip"]
    assert (folders["clean"] / "letter.txt").read_bytes() == CLEAN
    assert (folders["infected"] / "bad.txt").read_bytes() == CLEAN + marker()
    assert len(list(reports.rglob("*.json"))) == 1


async def test_a_handler_is_told_everything(make: Make, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "bad.txt", marker())
    seen: list[tuple[Scanned, StepContext, int]] = []
    main = threading.get_ident()
    pipeline = make().on(
        "infected", Workflow("isolate").then(move_to("infected"), call("sync"), call("async"), call("callable"))
    )

    @pipeline.handler("sync")
    def sync(scanned: Scanned, step: StepContext) -> dict[str, int]:
        seen.append((scanned, step, threading.get_ident()))
        return {"ticket": 7}

    @pipeline.handler("async")
    async def asynchronous(scanned: Scanned, step: StepContext) -> list[str]:
        await asyncio.sleep(0)
        seen.append((scanned, step, threading.get_ident()))
        return [step.step, "umlaut ä"]

    class Callable:
        async def __call__(self, scanned: Scanned, step: StepContext) -> None:
            seen.append((scanned, step, threading.get_ident()))

    pipeline.handler("callable")(Callable())
    async with pipeline:
        done = await pipeline.process("incoming", "bad.txt")
    assert done.task.step("sync").output == {"ticket": 7}
    assert done.task.step("async").output == ["async", "umlaut ä"]
    assert done.task.step("callable").output is None
    assert [step.step for _, step, _ in seen] == ["sync", "async", "callable"]
    assert [thread == main for _, _, thread in seen] == [False, True, True]
    scanned, context, _ = seen[1]
    assert scanned.report == done.report and scanned.task == done.task.id
    assert context.outputs["sync"] == {"ticket": 7} and context.attempt == 1
    assert context.object and context.object.bucket.endswith("/infected")
    assert len({step.idempotency_key for _, step, _ in seen}) == 3


class Unreachable(Exception):
    pass


async def test_what_a_handler_raises_is_journalled_and_retried(make: Make, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "letter.txt", CLEAN)
    calls: list[tuple[str, int, str]] = []
    retry = Retry(attempts=3, initial=0.01, cap=0.01)
    pipeline = make().on("clean", Workflow("release").then(call("flaky", retry=retry), call("never", retry=retry)))

    @pipeline.handler("flaky")
    async def flaky(scanned: Scanned, step: StepContext) -> str:
        calls.append((step.step, step.attempt, step.idempotency_key))
        if step.attempt < 3:
            raise Unreachable("the CRM does not answer")
        return "done"

    @pipeline.handler("never")
    def never(scanned: Scanned, step: StepContext) -> None:
        calls.append((step.step, step.attempt, step.idempotency_key))
        raise Unreachable(f"not even the {step.attempt}. time")

    async with pipeline:
        done = await pipeline.process("incoming", "letter.txt")
    assert [(name, attempt) for name, attempt, _ in calls] == [
        ("flaky", 1),
        ("flaky", 2),
        ("flaky", 3),
        ("never", 1),
        ("never", 2),
        ("never", 3),
    ]
    assert len({key for name, _, key in calls if name == "flaky"}) == 1
    assert done.task.state == "dead"
    failed = done.task.step("never")
    assert failed.state == "failed" and failed.attempt == 3
    assert failed.error and f"{__name__}.Unreachable: not even the 3. time" in failed.error


@pytest.mark.parametrize("what", ["object", "nan", "fatal", "cycle", "exit", "config"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_handlers_that_cannot_be_retried(
    make: Make, folders: dict[str, pathlib.Path], what: str, kind: str
) -> None:
    put(folders["incoming"], "letter.txt", CLEAN)
    calls = 0

    def answer() -> Any:
        nonlocal calls
        calls += 1
        match what:
            case "object":
                return object()
            case "nan":
                return {"score": float("nan")}
            case "cycle":
                cycle: list[Any] = []
                cycle.append(cycle)
                return cycle
            case "fatal":
                raise HandlerError("there is no such customer", retryable=False)
            case "exit":
                raise SystemExit(3)
            case _:
                raise ConfigError("the CRM has no address", kind="config")

    def sync(scanned: Scanned, step: StepContext) -> Any:
        return answer()

    async def asynchronous(scanned: Scanned, step: StepContext) -> Any:
        return answer()

    retry = Retry(attempts=2, initial=0.01, cap=0.01)
    pipeline = make().on("clean", Workflow("release").then(call("crm", retry=retry)))
    pipeline.handler("crm")(sync if kind == "sync" else asynchronous)
    async with pipeline:
        done = await pipeline.process("incoming", "letter.txt")
    assert done.task.state == "dead"
    assert calls == (2 if what == "exit" else 1)
    words = {"fatal": "no such customer", "exit": "SystemExit: 3", "config": "ConfigError: the CRM has no address"}
    error = done.task.step("crm").error
    assert error and words.get(what, "what JSON cannot hold") in error


async def test_a_handler_that_never_ends_is_cut_off(make: Make, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "letter.txt", CLEAN)
    cancelled = asyncio.Event()
    retry = Retry(attempts=1)
    pipeline = make().on("clean", Workflow("release").then(call("crm", retry=retry, timeout=0.2)))

    @pipeline.handler("crm")
    async def crm(scanned: Scanned, step: StepContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with pipeline:
        done = await pipeline.process("incoming", "letter.txt")
        assert done.task.state == "dead"
        await asyncio.wait_for(cancelled.wait(), 10)


async def test_uploads_are_behind_the_gate(
    make: Make, catalogue: pathlib.Path, folders: dict[str, pathlib.Path]
) -> None:
    told: list[str] = []
    pipeline = (
        make().on("clean", Workflow("release").then(call("note"))).on("infected", Workflow("alarm").then(call("note")))
    )

    @pipeline.handler("note")
    def note(scanned: Scanned, step: StepContext) -> None:
        assert step.object is None
        told.append(scanned.object.key)

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(CLEAN), 7):
            yield CLEAN[at : at + 7]

    async with pipeline:
        for source in (CLEAN, parts(), [CLEAN]):
            upload = await pipeline.process_upload(source, name="letter.txt")
            assert upload.admitted and await upload.read() == CLEAN
        stored = await upload.store("clean", "2026/letter.txt")
        assert (stored.key, stored.size) == ("2026/letter.txt", len(CLEAN))
        assert (folders["clean"] / "2026/letter.txt").read_bytes() == CLEAN
        for content in (marker(), (catalogue / "hidden-zipcrypto.zip").read_bytes()):
            refused = await pipeline.process_upload(content, name="bad.bin")
            assert not refused.admitted and refused.report.verdict.status != "clean"
            for attempt in (refused.read(), refused.store("clean", "bad.bin")):
                with pytest.raises(ScanPipelineError) as caught:
                    await attempt
                assert caught.value.kind == "denied"
        # An identity of the application's: once for the same bytes, and refused for others.
        first = await pipeline.process_upload(CLEAN, name="letter.txt", id="order-1")
        again = await pipeline.process_upload(catalogue / "clean-text.txt", name="letter.txt", id="order-2")
        repeated = await pipeline.process_upload(CLEAN, name="letter.txt", id="order-1")
        assert not first.processed.repeated and not again.processed.repeated and repeated.processed.repeated
        with pytest.raises(ScanPipelineError) as other:
            await pipeline.process_upload(CLEAN + b"!", name="letter.txt", id="order-1")
        assert other.value.kind == "invalid_input"
        for wrong in (len(CLEAN) - 1, len(CLEAN) + 1):
            with pytest.raises(ScanPipelineError):
                await pipeline.process_upload(CLEAN, name="letter.txt", size=wrong)
    assert told == ["letter.txt"] * 3 + ["bad.bin"] + ["letter.txt"] * 2
    assert not (folders["clean"] / "bad.bin").exists()


async def test_an_upload_that_is_too_large_or_breaks_off(make: Make) -> None:
    class Gone(Exception):
        pass

    async def breaks_off() -> AsyncIterator[bytes]:
        yield CLEAN
        raise Gone

    async with make(settings={"limits": {"max_size": 1000}}).on("clean", None) as pipeline:
        with pytest.raises(LimitError):
            await pipeline.process_upload([bytes(600), bytes(600)], name="large.bin")
        with pytest.raises(Gone):
            await pipeline.process_upload(breaks_off(), name="cut.bin")


async def test_a_worker_in_the_applications_own_process(
    make: Make, folders: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    pipeline = make(queue=f"sqlite://{tmp_path}/queue.db").on("infected", Workflow("isolate").then(call("told")))
    told = asyncio.Event()

    @pipeline.handler("told")
    async def told_of(scanned: Scanned, step: StepContext) -> None:
        told.set()

    put(folders["incoming"], "bad.txt", marker())
    async with pipeline:
        async with pipeline.work() as worker:
            await pipeline.enqueue(f"file://{folders['incoming']}", "bad.txt")
            await asyncio.wait_for(told.wait(), 60)
        assert worker.worked and (worker.worked.done, worker.worked.dead) == (1, 0)


async def test_what_a_process_left_is_taken_up(make: Make, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "letter.txt", CLEAN)
    workflow = Workflow("release").then(call("crm", retry=Retry(attempts=5, initial=0.05, cap=0.05)))
    broken = make(settings={"limits": {"settle": "0ms", "patience": "1ms", "lease": "1s"}}).on("clean", workflow)

    @broken.handler("crm")
    def fails(scanned: Scanned, step: StepContext) -> None:
        raise Unreachable("not now")

    async with broken:
        left = await broken.process("incoming", "letter.txt")
        assert left.task.state == "handling"
        assert left.task.step("crm").error == f"{__name__}.Unreachable: not now"
    mended = make().on("clean", workflow)
    mended.handler("crm")(lambda scanned, step: "done")
    async with mended:
        done: list[Processed] = []
        async with asyncio.timeout(60):
            while not done:
                done += (await mended.resume()).tasks
                await asyncio.sleep(0.01)
        assert done[0].task.id == left.task.id and done[0].task.state == "done"
        assert done[0].task.step("crm").output == "done"


async def test_every_mistake_is_told_at_once(make: Make, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError) as caught:
        await (
            make(settings={"limits": {"concurrency": 0}, "stoer": {}})
            .on("clean", Workflow("release").then(move_to("nowhere"), call("nobody"), step("tga")))
            .open()
        )
    for words in ("nowhere", "nobody", "tga", "stoer", "concurrency"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError):
        await Pipeline(store="mysql://nothing").open()
    for wrong in ({"verdict": "maybe"}, {"verdict": "clean", "reason": "encrypted"}):
        with pytest.raises(ValueError):
            make().on(workflow=None, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        make().on("clean", "release")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Workflow("release").then("tag")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        make().handler("crm")(7)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="another workflow"):
        make().on("clean", Workflow("a").then(tag())).on("infected", Workflow("a").then(delete()))


async def test_an_upload_from_a_descriptor_that_is_none(make: Make) -> None:
    async with make().on("clean", None) as pipeline:
        async with asyncio.timeout(10):
            with pytest.raises(OSError):
                await pipeline.process_upload(9999, name="letter.txt")


def test_a_call_on_a_loop_that_is_gone_is_no_attempt(make: Make, folders: dict[str, pathlib.Path]) -> None:
    """What was left undone is done by the next who opens the store, however often it could not be begun before."""
    put(folders["incoming"], "letter.txt", CLEAN)
    calls: list[int] = []
    workflow = Workflow("release").then(call("crm", retry=Retry(attempts=2, initial=0.01, cap=0.01)))
    settings = {"limits": {"settle": "0ms", "patience": "20ms", "lease": "1s"}, "run": {"drain": "100ms"}}

    def opened() -> Pipeline:
        pipeline = make(settings=settings).on("clean", workflow)

        @pipeline.handler("crm")
        async def crm(scanned: Scanned, step: StepContext) -> str:
            calls.append(step.attempt)
            return "done"

        return pipeline

    pipeline = opened()
    asyncio.run(pipeline.open())  # The loop is closed when this is through.

    async def try_it() -> Processed | None:
        work = asyncio.create_task(pipeline.process("incoming", "letter.txt"))
        await asyncio.wait({work}, timeout=1)
        found = await pipeline.resume() if not work.done() else None
        work.cancel()
        await asyncio.wait({work})
        assert found is None or not found.errors
        return None if work.cancelled() else work.result()

    left = asyncio.run(try_it())
    assert calls == []
    assert left is None or left.task.state == "handling", left
    asyncio.run(pipeline.close())

    async def do_it() -> Processed:
        async with opened() as mended:
            done: list[Processed] = []
            async with asyncio.timeout(60):
                while not done:
                    done += [one for one in (await mended.resume()).tasks if one.task.state != "handling"]
                    await asyncio.sleep(0.01)
            return done[0]

    done = asyncio.run(do_it())
    assert done.task.state == "done" and done.task.step("crm").output == "done"
    assert calls == [1], "the first attempt is the first that called it"


def test_a_database_that_was_open_at_the_fork_is_refused(make: Make, folders: dict[str, pathlib.Path]) -> None:
    """Its locks are the process's that opened it, and SQLite in the child believes that it holds them."""
    put(folders["incoming"], "letter.txt", CLEAN)

    async def main() -> None:
        pipeline = make().on("clean", None)
        child = make().on("clean", None)
        async with pipeline:
            assert _in_child(lambda: asyncio.run(child.open())) == "the process that forked this one"
            assert (await pipeline.process("incoming", "letter.txt")).task.state == "done"
        # Closed before the fork, it is free for everybody.
        assert _in_child(lambda: asyncio.run(child.open())) == "opened"

    asyncio.run(main())


def _in_child(work: Callable[[], object]) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # The loop that runs here is the parent's.
            asyncio._set_running_loop(None)
            work()
            said = "opened"
        except BaseException as why:
            said = str(why)
        os.write(writing, said.encode()[:1000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said if said == "opened" else said[: len("the process that forked this one")]


async def test_a_pipeline_belongs_to_its_process(make: Make, folders: dict[str, pathlib.Path]) -> None:
    pipeline = make().on("clean", None)
    with pytest.raises(ScanPipelineError, match="not open"):
        await pipeline.process("incoming", "letter.txt")
    async with pipeline:
        with pytest.raises(ScanPipelineError) as gone:
            await pipeline.process("incoming", "missing.txt")
        assert gone.value.kind == "gone"
        with pytest.raises(ScanPipelineError):
            _ = [one async for one in pipeline.run("nowhere")]
        native = pipeline._opened
        pid = os.fork()
        if pid == 0:
            try:
                native.explain()
                native.work()
            except RuntimeError as why:
                os._exit(0 if "before a fork" in str(why) else 7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(ScanPipelineError, match="not open"):
        await pipeline.resume()


async def test_steps_are_those_of_the_configuration() -> None:
    pipeline = (
        Pipeline(store="sqlite://scan.db", buckets={"incoming": "s3://incoming"}, settings={"engine": {"clamav": {}}})
        .on("clean", Workflow("release").then(copy_to("s3://clean/2026/", timeout=5)).on_fatal(delete()))
        .on(
            "infected",
            Workflow("isolate").parallel([tag(), record("incoming")], notify("https://example.com", secrets="x")),
        )
        .on("unscannable", None, reason="encrypted")
        .on_findings(None, detectors=["ssn"], min_confidence=0.8)
    )
    assert pipeline.table() == {
        "engine": {"clamav": {}},
        "store": {"url": "sqlite://scan.db"},
        "buckets": {"incoming": "s3://incoming", "s3-clean": "s3://clean"},
        "policy": {
            "clean": "release",
            "infected": "isolate",
            "unscannable_for": {"encrypted": "leave"},
            "findings": [{"workflow": "leave", "min_confidence": 0.8, "detectors": ["ssn"]}],
        },
        "workflow": {
            "release": {
                "steps": [
                    {"do": "relocate", "to": "s3-clean", "keep_source": True, "prefix": "2026/", "timeout": "5000ms"}
                ],
                "on_fatal": [{"do": "delete"}],
            },
            "isolate": {
                "steps": [
                    {
                        "parallel": [
                            [{"do": "tag"}, {"do": "record", "to": "incoming"}],
                            [{"do": "notify", "url": "https://example.com", "secrets": ["x"]}],
                        ]
                    }
                ]
            },
        },
    }


async def test_findings_have_a_workflow_of_their_own(make: Make, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "salaries.csv", b"name,card\nA. Nobody,credit card 4111 1111 1111 1111\n")
    async with Scanner.open(DEFINITIONS, threads=1, detect=["credit_card"]) as scanner:
        pipeline = make()
        pipeline._scanner = scanner
        pipeline.on("clean", None).on_findings(Workflow("review").then(record()), detectors=["credit_card"])
        async with pipeline:
            done = await pipeline.process("incoming", "salaries.csv")
    assert done.report and [finding.detector for finding in done.report.findings] == ["credit_card"]
    assert "4111 1111 1111 1111" not in str(done.report.to_dict())
    assert done.task.workflow == "review" and done.task.step("record").state == "done"


async def test_a_pipeline_loads_an_engine_of_its_own(tmp_path: pathlib.Path, folders: dict[str, pathlib.Path]) -> None:
    put(folders["incoming"], "bad.txt", marker())
    settings = {"engine": {"clamav": {"definitions": str(DEFINITIONS), "threads": 1}}, "limits": {"settle": "0ms"}}
    buckets = {"incoming": f"file://{folders['incoming']}"}
    pipeline = Pipeline(store=f"sqlite://{tmp_path}/scan.db", buckets=buckets, settings=settings)
    async with pipeline.on("infected", Workflow("isolate").then(delete())):
        done = await pipeline.process("incoming", "bad.txt")
    assert done.task.state == "done" and done.task.place is None
    assert not (folders["incoming"] / "bad.txt").exists()
    broken = Pipeline(store=f"sqlite://{tmp_path}/scan.db", settings={**settings, "engine": {"clamav": {"threads": 0}}})
    with pytest.raises(ConfigError, match="threads"):
        await broken.open()

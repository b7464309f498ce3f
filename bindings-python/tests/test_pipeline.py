"""The pipeline from Python: what follows from a verdict, uploads, workers, and whose it is."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest
from conftest import CLEAN, DEFINITIONS, Make, marker, put

from scan_pipeline import (
    ConfigError,
    LimitError,
    Pipeline,
    Scanned,
    Scanner,
    ScanPipelineError,
    StepContext,
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

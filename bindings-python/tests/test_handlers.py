"""Handlers of the application's: what they are told, what follows from their answers, and who calls them again."""

from __future__ import annotations

import asyncio
import pathlib
import threading
from typing import Any

import pytest
from conftest import CLEAN, Make, marker, put

from scan_pipeline import (
    ConfigError,
    HandlerError,
    Pipeline,
    Processed,
    Retry,
    Scanned,
    StepContext,
    Workflow,
    call,
    move_to,
)


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

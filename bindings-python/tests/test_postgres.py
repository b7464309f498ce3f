"""A pipeline whose store and queue are a real PostgreSQL, by its address."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlsplit

import pytest
from conftest import CLEAN, marker, put
from servers import free_port

from scan_pipeline import (
    ConfigError,
    Pipeline,
    Scanned,
    ScanPipelineError,
    StepContext,
    SyncScanner,
    Workflow,
    call,
    move_to,
)


def is_built_in(scanner: SyncScanner) -> bool:
    """`QUICK=1 scripts/python.sh` builds what users get by default, which has no PostgreSQL."""
    with pytest.raises(ConfigError) as mistakes:
        # All are told at once, and that there is no bucket is one.
        asyncio.run(Pipeline(store="postgres://nobody@127.0.0.1/none", scanner=scanner).open())
    return "this build has no PostgreSQL" not in str(mistakes.value)


@pytest.fixture(scope="module")
def database(scanner: SyncScanner) -> Iterator[str]:
    """The address of a database of a server that is gone with its input: with us, even when we are killed."""
    program = pathlib.Path(os.environ["SCAN_PIPELINE_FIXTURES"]).parents[1] / "debug" / "examples" / "postgres"
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        address = server.stdout.readline().strip()
        if not address:
            # It has said why, and fails by itself where a server has to be there.
            assert server.wait() == 0, "PostgreSQL did not start"
            pytest.skip("PostgreSQL is not installed: scripts/setup.sh test")
        if not is_built_in(scanner):
            assert os.environ.get("REQUIRE_SERVICES") != "1", "the module was built without postgres-tls"
            pytest.skip("the module was built without postgres-tls")
        yield address
    assert server.returncode == 0


@pytest.fixture
def make(scanner: SyncScanner, folders: dict[str, pathlib.Path], database: str) -> Callable[..., Pipeline]:
    def make(store: str = database, queue: str | None = None) -> Pipeline:
        return Pipeline(
            store=store,
            queue=queue,
            scanner=scanner,
            buckets={name: f"file://{folder}" for name, folder in folders.items()},
            settings={"limits": {"settle": "0ms"}},
        )

    return make


def released(pipeline: Pipeline, told: list[str]) -> Pipeline:
    @pipeline.handler("told")
    def tell(scanned: Scanned, step: StepContext) -> None:
        told.append(scanned.object.key)

    return (
        pipeline.on("clean", Workflow("release").then(call("told"), move_to("clean")))
        .on("infected", Workflow("isolate").then(call("told"), move_to("infected")))
        .on("unscannable", Workflow("stay").then(call("told")))
    )


def files(folders: dict[str, pathlib.Path]) -> dict[str, dict[str, bytes]]:
    return {
        name: {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
        for name, folder in folders.items()
    }


async def test_objects_go_their_way_once(
    make: Callable[..., Pipeline], folders: dict[str, pathlib.Path], catalogue: pathlib.Path
) -> None:
    locked = (catalogue / "hidden-zipcrypto.zip").read_bytes()
    put(folders["incoming"], "letter.txt", CLEAN)
    put(folders["incoming"], "bad.txt", CLEAN + marker())
    put(folders["incoming"], "salaries.zip", locked)
    keys = ("letter.txt", "bad.txt", "salaries.zip")
    after = {
        "incoming": {"salaries.zip": locked},
        "clean": {"letter.txt": CLEAN},
        "infected": {"bad.txt": CLEAN + marker()},
    }
    places = {"letter.txt": "clean", "bad.txt": "infected", "salaries.zip": "incoming"}
    told: list[str] = []
    async with released(make(), told) as first:
        done = {key: await first.process("incoming", key) for key in keys}
        assert [(one.task.state, one.repeated) for one in done.values()] == [("done", False)] * 3
        assert {key: one.report.verdict.status for key, one in done.items() if one.report} == {
            "letter.txt": "clean",
            "bad.txt": "infected",
            "salaries.zip": "unscannable",
        }
        for key, bucket in places.items():
            place = done[key].task.place
            assert place and (place.bucket, place.key) == (f"file://{folders[bucket]}", key)
        assert files(folders) == after
        await once_more(first, done[keys[2]].task.id)
        # Another one, as on another machine: it has only the database to know it from.
        async with released(make(), told) as second:
            for one in done.values():
                assert await second.task(one.task.id) == one.task
            await once_more(second, done[keys[2]].task.id)
            assert await second.resume() == await first.resume()
    assert told == list(keys)
    assert files(folders) == after


async def once_more(pipeline: Pipeline, stayed: str) -> None:
    """What was moved is not there any more, and what stayed is through."""
    for key in ("letter.txt", "bad.txt"):
        with pytest.raises(ScanPipelineError) as gone:
            await pipeline.process("incoming", key)
        assert gone.value.kind == "gone" and not gone.value.retryable
    again = await pipeline.process("incoming", "salaries.zip")
    assert (again.repeated, again.task.id, again.task.state) == (True, stayed, "done")


async def test_a_worker_takes_from_the_queue(
    database: str, make: Callable[..., Pipeline], folders: dict[str, pathlib.Path]
) -> None:
    put(folders["incoming"], "bad.txt", CLEAN + marker())
    told: list[str] = []
    both = [released(make(queue=database), told) for _ in range(2)]
    async with both[0] as sends, both[1] as works:
        await sends.enqueue(f"file://{folders['incoming']}", "bad.txt")
        async with works.work() as worker, asyncio.timeout(60):
            while "bad.txt" not in files(folders)["infected"]:
                await asyncio.sleep(0.02)
        assert worker.worked and (worker.worked.done, worker.worked.retried, worker.worked.dead) == (1, 0, 0)
    assert told == ["bad.txt"]


@pytest.mark.parametrize("what", ["store", "queue"])
@pytest.mark.parametrize("wrong", ["port", "database", "password", "parameter"])
async def test_a_wrong_address(
    database: str, make: Callable[..., Pipeline], what: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(database)
    login, _, host = parts.netloc.rpartition("@")
    secret = str(parts.password)
    address, cls, kind, retryable = {
        "port": (parts._replace(netloc=f"{login}@127.0.0.1:{free_port()}"), ScanPipelineError, "unavailable", True),
        "database": (parts._replace(path="/nobodys"), ConfigError, "config", False),
        "password": (parts._replace(netloc=f"{login}x@{host}"), ScanPipelineError, "denied", False),
        "parameter": (parts._replace(query="sslmoed=require"), ConfigError, "config", False),
    }[wrong]
    pipeline = released(make(**{what: address.geturl()}), [])
    with pytest.raises(ScanPipelineError) as caught:
        async with pipeline:
            # A queue is opened when it is needed.
            assert what == "queue"
            await pipeline.enqueue("file:///nowhere", "letter.txt")
    assert (type(caught.value), caught.value.kind, caught.value.retryable) == (cls, kind, retryable), caught.value
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert secret not in shown and unquote(secret) not in shown, shown

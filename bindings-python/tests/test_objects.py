"""What becomes of objects, by the table of `tests/src/objects.rs`: on a folder and on an S3 server."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
from s3 import Minio, minio

from scan_pipeline import Pipeline, Scanned, ScanPipelineError, StepContext, SyncScanner, Workflow, call, move_to, tag

TABLE: dict[str, Any] = json.loads((pathlib.Path(os.environ["SCAN_PIPELINE_FIXTURES"]) / "objects.json").read_text())
BEHAVIOURS: list[dict[str, Any]] = TABLE["behaviours"]
KEYS: list[dict[str, Any]] = TABLE["keys"]
BUCKETS = ("incoming", "clean", "infected")


class Place(Protocol):
    """Three buckets, and a way to them beside the binding."""

    has_tags: bool

    def bucket(self, name: str) -> str | dict[str, Any]: ...

    def put(self, bucket: str, key: str, content: bytes, tags: dict[str, str] | None = None) -> None: ...

    def get(self, bucket: str, key: str) -> bytes | None: ...

    def delete(self, bucket: str, key: str) -> None: ...

    def tags(self, bucket: str, key: str) -> dict[str, str]: ...


class Folders:
    has_tags = False

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        for name in BUCKETS:
            (root / name).mkdir()

    def bucket(self, name: str) -> str:
        return f"file://{self.root / name}"

    def put(self, bucket: str, key: str, content: bytes, tags: dict[str, str] | None = None) -> None:
        path = self.root / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        # As a whole, and a file of its own: who reads the old one goes on with that.
        fresh = self.root / "fresh"
        fresh.write_bytes(content)
        fresh.replace(path)

    def get(self, bucket: str, key: str) -> bytes | None:
        path = self.root / bucket / key
        return path.read_bytes() if path.exists() else None

    def delete(self, bucket: str, key: str) -> None:
        (self.root / bucket / key).unlink()

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        raise AssertionError("a folder's tags are nobody's but ours")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio | None]:
    with minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Place:
    if request.param == "folder":
        return Folders(tmp_path)
    server: Minio | None = request.getfixturevalue("server")
    if server is None:
        pytest.skip("MinIO is not installed: scripts/servers.sh minio")
    return server.fresh(BUCKETS)


@pytest.fixture
def make(scanner: SyncScanner, tmp_path: pathlib.Path, place: Place) -> Callable[..., Pipeline]:
    def make(name: str = "scan") -> Pipeline:
        return Pipeline(
            store=f"sqlite://{tmp_path}/{name}.db",
            queue=f"sqlite://{tmp_path}/{name}-queue.db",
            scanner=scanner,
            buckets={name: place.bucket(name) for name in BUCKETS},
            settings={"limits": {"settle": "0ms"}},
        )

    return make


def released(pipeline: Pipeline, meanwhile: Callable[[], None], told: asyncio.Event) -> Pipeline:
    """The policy of the table. Once, between a scan and the first action, something happens."""

    @pipeline.handler("meanwhile")
    def happens(scanned: Scanned, step: StepContext) -> None:
        meanwhile()

    @pipeline.handler("told")
    async def tell(scanned: Scanned, step: StepContext) -> None:
        told.set()

    def to(bucket: str) -> Workflow:
        return Workflow(bucket).then(call("meanwhile"), tag(), move_to(bucket, tags=True), call("told"))

    return (
        pipeline.on("clean", to("clean"))
        .on("infected", to("infected"))
        .on("unscannable", Workflow("stay").then(call("told")))
    )


@pytest.mark.parametrize("expected", BEHAVIOURS, ids=lambda expected: str(expected["name"]))
async def test_behaviours(
    make: Callable[..., Pipeline], place: Place, catalogue: pathlib.Path, expected: dict[str, Any]
) -> None:
    key = "2026/letter.bin"
    content = last = (catalogue / expected["content"]).read_bytes()
    tags = {f"user-{number}": "theirs" for number in range(expected["tags"])}
    if tags and not place.has_tags:
        pytest.skip("nobody but us has tags there")
    if expected["then"]:
        last = (catalogue / expected["then"]).read_bytes()
    place.put("incoming", key, content, tags)
    left = [True] if expected["meanwhile"] == "before_the_move" else []
    told = asyncio.Event()

    def meanwhile() -> None:
        if left:
            left.clear()
            if expected["then"]:
                place.put("incoming", key, last)
            else:
                place.delete("incoming", key)

    async with released(make(), meanwhile, told) as pipeline:
        if expected["meanwhile"] == "before_the_scan":
            async with make("look").on("clean", None).on("infected", None) as look:
                seen = (await look.process("incoming", key)).task.object
            place.put("incoming", key, last)
            async with pipeline.work():
                await pipeline.enqueue(str(seen.bucket), key, etag=seen.etag)
                await asyncio.wait_for(told.wait(), 60)
        else:
            done = await pipeline.process("incoming", key)
            assert done.task.state == expected["state"], done.task
            assert done.superseded == (1 if expected["then"] else 0)
            # And once more: it is through, whatever is asked.
            if expected["place"] == "incoming":
                assert (await pipeline.process("incoming", key)).repeated
    assert not left
    for bucket in BUCKETS:
        assert place.get(bucket, key) == (last if bucket == expected["place"] else None), bucket
    if tags:
        has = place.tags(str(expected["place"]), key)
        assert tags.items() <= has.items() and len(has) == 10
        assert ("scan-status" in has) == (len(tags) < 10)


@pytest.mark.parametrize("expected", KEYS, ids=lambda expected: repr(expected["key"]))
async def test_keys_are_exact(
    make: Callable[..., Pipeline], place: Place, catalogue: pathlib.Path, expected: dict[str, Any]
) -> None:
    """The object itself is moved, and the one whose key it may be mistaken for stays; or the key is refused."""
    key, twin = expected["key"], expected["twin"]
    infected = (catalogue / "infected-letter.tar.gz").read_bytes()
    place.put("incoming", twin, b"the twin's")
    async with released(make(), lambda: None, asyncio.Event()) as pipeline:
        if expected["refused_by_paths"]:
            with pytest.raises(ScanPipelineError) as refused:
                await pipeline.process("incoming", key)
            assert refused.value.kind in ("invalid_input", "gone") and not refused.value.retryable
        else:
            place.put("incoming", key, infected)
            done = await pipeline.process("incoming", key)
            assert (done.task.state, done.task.object.key) == ("done", key)
            assert done.task.place and done.task.place.key == key
            assert place.get("infected", key) == infected and place.get("incoming", key) is None
    assert place.get("incoming", twin) == b"the twin's"
    assert place.get("clean", twin) is None and place.get("infected", twin) is None


async def test_every_fixture_through_the_pipeline(
    make: Callable[..., Pipeline], tmp_path: pathlib.Path, scanner: SyncScanner, catalogue: pathlib.Path,
    expectations: list[dict[str, Any]], place: Place,
) -> None:
    """Only what is clean is moved or admitted, and the report on record is that of the scan."""
    # On S3 the way of the bytes is what there is to be seen, which some of each kind show.
    fixtures = [each for each in expectations if not each["beyond_default_limits"]]
    if place.has_tags:
        fixtures = fixtures[::12]
    for each in fixtures:
        place.put("incoming", each["name"], (catalogue / each["name"]).read_bytes())
    wrong: list[str] = []
    async with released(make(), lambda: None, asyncio.Event()) as pipeline:
        done = {one.processed.task.object.key: one.processed async for one in pipeline.run("incoming") if one.processed}
        assert done.keys() == {each["name"] for each in fixtures}
        for each in fixtures:
            name, content = each["name"], (catalogue / each["name"]).read_bytes()
            report = scanner.scan(content, name=name)
            status, one = report.verdict.status, done[name]
            where = {"clean": "clean", "infected": "infected", "unscannable": "incoming"}[status]
            found = [bucket for bucket in BUCKETS if place.get(bucket, name) is not None]
            if one.task.state != "done" or found != [where] or place.get(where, name) != content:
                wrong.append(f"{name}: {status}, and it is {one.task.state} in {found}")
            upload = await pipeline.process_upload(content, name=name)
            if upload.admitted != (status == "clean") or (upload.admitted and await upload.read() != content):
                wrong.append(f"{name}: {status}, and admitted is {upload.admitted}")
            for what, other in (("task", one.report), ("upload", upload.report)):
                if other is None or said(other.to_dict()) != said(report.to_dict()):
                    wrong.append(f"{name}: {what} has {other} instead of {report}")
    assert not wrong, f"{len(wrong)} of {len(fixtures)}:\n" + "\n".join(wrong)


def said(report: dict[str, Any]) -> dict[str, Any]:
    """What does not differ from scan to scan: the time it took, and the numbers of the parts of a mail."""
    from test_catalogue import settled

    return settled({name: value for name, value in report.items() if name != "elapsed_ms"})

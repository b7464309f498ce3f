"""An S3 server as the Rust tests start it (`scripts/servers.sh minio`), and a client that is none of ours."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import itertools
import os
import pathlib
import time
import xml.etree.ElementTree
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
from servers import free_port, running

ACCESS, SECRET, REGION = "test-access-key", "test-secret-key", "us-east-1"


class Minio:
    """The server, and buckets of one test: their names end in its number."""

    has_tags = True

    def __init__(self, endpoint: str) -> None:
        self._endpoint, self._numbers, self._number = endpoint, itertools.count(), 0

    def fresh(self, buckets: Iterable[str]) -> Minio:
        """Buckets that nobody has used."""
        self._number = next(self._numbers)
        for bucket in buckets:
            self._ask("PUT", bucket, "")
        return self

    def bucket(self, name: str) -> dict[str, Any]:
        return {
            "url": f"s3://{name}-{self._number}",
            "endpoint": self._endpoint,
            "region": REGION,
            "path_style": True,
            "access_key": ACCESS,
            "secret_key": SECRET,
            # MinIO without versions takes any delete, whatever it is bound to.
            "accept_unpinned_delete": True,
        }

    def put(self, bucket: str, key: str, content: bytes, tags: dict[str, str] | None = None) -> None:
        words = "&".join(f"{quote(name)}={quote(value)}" for name, value in (tags or {}).items())
        self._ask("PUT", bucket, key, content, {"x-amz-tagging": words} if words else {})

    def get(self, bucket: str, key: str) -> bytes | None:
        answer = self._ask("GET", bucket, key, missing=True)
        return None if answer.status_code == 404 else answer.content

    def delete(self, bucket: str, key: str) -> None:
        self._ask("DELETE", bucket, key)

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        tree = xml.etree.ElementTree.fromstring(self._ask("GET", bucket, key, query="tagging=").text)
        pairs = [each for each in tree.iter() if each.tag.endswith("Tag")]
        return {str(pair[0].text): str(pair[1].text) for pair in pairs}

    def _ask(
        self,
        method: str,
        bucket: str,
        key: str,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        query: str = "",
        missing: bool = False,
    ) -> httpx.Response:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        path = quote(f"/{bucket}-{self._number}" + (f"/{key}" if key else ""), safe="/-_.~")
        digest = hashlib.sha256(content).hexdigest()
        host = self._endpoint.removeprefix("http://")
        signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now, **(headers or {})}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        secret = b"AWS4" + SECRET.encode()
        for word in (*scope.split("/"), text):
            secret = hmac.digest(secret, word.encode(), "sha256")
        words = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={secret.hex()}"
        # As it stands: httpx would decode and encode the path once more.
        url = httpx.URL(self._endpoint).copy_with(raw_path=(path + (f"?{query}" if query else "")).encode())
        answer = httpx.request(method, url, content=content, headers={**signed, "authorization": words}, timeout=60)
        if not answer.is_success and not (missing and answer.status_code == 404):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer


@contextlib.contextmanager
def minio(folder: pathlib.Path) -> Iterator[Minio | None]:
    """A server for the tests of a module, or `None` where it is not installed, which is a failure in CI."""
    program = pathlib.Path(os.environ["SCAN_PIPELINE_FIXTURES"]).parents[1] / "servers" / "bin" / "minio"
    if not program.exists():
        assert not os.environ.get("REQUIRE_SERVICES"), f"{program} is missing: scripts/servers.sh minio"
        yield None
        return
    port = free_port()
    environment = {
        "MINIO_ROOT_USER": ACCESS,
        "MINIO_ROOT_PASSWORD": SECRET,
        "MINIO_REGION": REGION,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "HOME": str(folder),
    }
    command = [str(program), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")]
    with running(command, port, folder / "log", environment) as endpoint:
        give_up = time.monotonic() + 60
        while True:
            # It listens a while before it answers.
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{endpoint}/minio/health/cluster").is_success:
                    break
            assert time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.05)
        yield Minio(endpoint)

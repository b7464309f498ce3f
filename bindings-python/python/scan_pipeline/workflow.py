"""What follows from a verdict: a tree of named steps, in the words of the configuration file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .settings import time

__all__ = [
    "Retry",
    "Step",
    "Workflow",
    "call",
    "copy_to",
    "delete",
    "email",
    "move_to",
    "notify",
    "record",
    "step",
    "tag",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a step is tried, and how long it waits in between: ``initial`` seconds, ``factor`` times more after
    each attempt, ``cap`` seconds at most. What is not given is as in the Rust library."""

    attempts: int | None = None
    initial: float | str | None = None
    factor: float | None = None
    cap: float | str | None = None

    def table(self) -> dict[str, Any]:
        """The table ``retry`` of a step."""
        return _given(
            attempts=self.attempts,
            initial=None if self.initial is None else time(self.initial),
            factor=None if self.factor is None else float(self.factor),
            cap=None if self.cap is None else time(self.cap),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Every function that makes one takes ``name`` (the journal knows it by that), ``retry`` and ``timeout``
    in seconds."""

    table: Mapping[str, Any] = field(repr=False)
    """The step as the configuration file has it, but for the bucket of ``to``, which may be an address."""


def step(
    do: str,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | str | None = None,
    **settings: Any,
) -> Step:
    """Any step by its name in the configuration file, with its settings there."""
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry is a Retry, not {type(retry).__name__}")
    common = _given(
        name=name,
        retry=None if retry is None else retry.table(),
        timeout=None if timeout is None else time(timeout),
    )
    return Step({"do": do, **common, **_given(**settings)})


def tag(vocabulary: str | Mapping[str, Any] | None = None, *, optional: bool | None = None, **common: Any) -> Step:
    """Tags the object with what was found."""
    return step("tag", vocabulary=vocabulary, optional=optional, **common)


def move_to(
    to: str,
    *,
    prefix: str | None = None,
    key: str | None = None,
    tags: bool | str | Mapping[str, Any] | None = None,
    on_conflict: str | None = None,
    **common: Any,
) -> Step:
    """Moves the object to another bucket: by its short name, or by an address such as ``s3://clean/2026/``."""
    return step("relocate", to=to, prefix=prefix, key=key, tags=tags, on_conflict=on_conflict, **common)


def copy_to(to: str, **settings: Any) -> Step:
    """As :func:`move_to`, and the object stays where it was, too."""
    return step("relocate", to=to, keep_source=True, **settings)


def delete(**common: Any) -> Step:
    """Deletes the object."""
    return step("delete", **common)


def notify(url: str, *, secrets: str | Iterable[str] = (), **settings: Any) -> Step:
    """Sends a webhook, signed with the secrets. ``headers``, ``event_type``, ``allow_http``,
    ``allow_private_addresses`` and others are as in the configuration file."""
    signed = [secrets] if isinstance(secrets, str) else list(secrets)
    return step("notify", url=url, secrets=signed or None, **settings)


def email(server: str, *, sender: str, to: str | Iterable[str], **settings: Any) -> Step:
    """Sends a mail. ``username``, ``password``, ``subject``, ``body`` and others are as in the configuration file."""
    recipients = [to] if isinstance(to, str) else list(to)
    made = step("email", server=server, to=recipients, **settings)
    return Step({**made.table, "from": sender})


def record(to: str | None = None, *, prefix: str | None = None, **common: Any) -> Step:
    """Writes the whole report to a bucket or table; without one, keeps a summary in the journal."""
    return step("record", to=to, prefix=prefix, **common)


def call(handler: str, *, name: str | None = None, **common: Any) -> Step:
    """Calls a handler of the application's, by the name it was given with :meth:`Pipeline.handler`."""
    return step("custom", handler=handler, name=handler if name is None else name, **common)


Branch = Step | Iterable[Step]


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps one after the other and side by side. Each method gives a new workflow.

    >>> Workflow("release").then(tag(), move_to("clean")).parallel(record(), notify("https://example.com/scanned"))
    """

    name: str
    nodes: tuple[Step | tuple[tuple[Step, ...], ...], ...] = ()
    fatal: tuple[Step, ...] = field(default=())

    def then(self, *steps: Step) -> Workflow:
        """Adds steps, one after the other."""
        return Workflow(self.name, (*self.nodes, *(_step(one) for one in steps)), self.fatal)

    def parallel(self, *branches: Branch) -> Workflow:
        """Adds branches that run side by side: each a step, or steps one after the other."""
        made = tuple(
            (branch,) if isinstance(branch, Step) else tuple(_step(one) for one in branch) for branch in branches
        )
        return Workflow(self.name, (*self.nodes, made), self.fatal)

    def on_fatal(self, *steps: Step) -> Workflow:
        """Adds steps for when one of the others failed for good."""
        return Workflow(self.name, self.nodes, (*self.fatal, *(_step(one) for one in steps)))

    def table(self, buckets: Buckets) -> dict[str, Any]:
        """The table ``[workflow.<name>]``."""
        nodes = [
            buckets.resolve(node)
            if isinstance(node, Step)
            else {"parallel": [[*map(buckets.resolve, b)] for b in node]}
            for node in self.nodes
        ]
        return {"steps": nodes, **({"on_fatal": [*map(buckets.resolve, self.fatal)]} if self.fatal else {})}


class Buckets:
    """Buckets by their short names; those that steps name by address get one."""

    def __init__(self, named: Mapping[str, str | Mapping[str, Any]]) -> None:
        self.table: dict[str, Any] = {name: url if isinstance(url, str) else dict(url) for name, url in named.items()}

    def resolve(self, step: Step) -> dict[str, Any]:
        """The step as the configuration has it."""
        table = dict(step.table)
        to = table.get("to")
        if table["do"] in ("relocate", "record") and isinstance(to, str) and "://" in to:
            if to.startswith("dynamodb:"):
                return table
            table["to"], prefix = self.add(to)
            if prefix:
                table["prefix"] = prefix + table.get("prefix", "")
        return table

    def add(self, url: str) -> tuple[str, str]:
        """The short name for an address, and what of it is a prefix of keys."""
        scheme, _, rest = url.partition("://")
        prefix = ""
        if scheme not in ("file", "memory"):
            rest, _, prefix = rest.partition("/")
        address = f"{scheme}://{rest.rstrip('/')}"
        for name, known in self.table.items():
            if (known if isinstance(known, str) else known.get("url", "")).rstrip("/") == address:
                return name, prefix
        base = re.sub(r"[^a-z0-9]+", "-", f"{scheme}-{rest}".lower()).strip("-") or "bucket"
        name, number = base, 2
        while name in self.table:
            name, number = f"{base}-{number}", number + 1
        self.table[name] = address
        return name, prefix


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _step(value: Any) -> Step:
    if not isinstance(value, Step):
        raise TypeError(f"a step is made with tag(), move_to(), notify() and so on; this is {type(value).__name__}")
    return value

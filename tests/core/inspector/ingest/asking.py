"""Asks a vendor's protocol directly, without HTTP."""

from typing import Any

import msgspec

from sessionsight.inspector.ingest import base, endpoints_at
from sessionsight.inspector.ingest.base import IngestResult
from sessionsight.inspector.model import InspectedRecord

NOW = 1_777_629_600.0


def ask(
    path: str, body: Any = None, headers: dict[str, str] | None = None, *, method: str = "POST", **options: Any
) -> IngestResult:
    ingest, endpoints = endpoints_at(path)
    assert ingest is not None, path
    endpoint = next(endpoint for endpoint in endpoints if endpoint.method == method)
    raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    keys = frozenset(options.pop("keys", ()))
    request = base.Request(
        method=method, path=path, headers=headers or {}, body=raw, received_at=NOW, keys=keys, **options
    )
    return base.answer(ingest, endpoint, request)


def one(outcome: IngestResult) -> InspectedRecord:
    (record,) = outcome.records
    return record

"""Keys stay where they belong: in the calls to their own vendors, and nowhere that people or programs read."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessionsight import Client
from sessionsight.diagnosis import check, report_lines, send_test_event, stats_lines
from tests.chaos.storm import HASTE, KEYS, WEATHER, Plan, Scene, destinations, visit

STORMY = 3.0
"""Seconds of bad weather."""


def everything(client: Client, folder: Path) -> Iterator[tuple[str, str]]:
    """All that can be seen of a client from outside, by name."""
    yield "repr of the client", repr(client)
    yield "repr of the settings", repr(client.settings)
    yield "repr of the destinations", repr(client.settings.destinations)
    stats, letters = client.stats(), client.dead_letters()
    yield "statistics", f"{stats} {msgspec.json.encode(stats)!r}"
    yield "dead letters", f"{letters} {msgspec.json.encode(letters)!r}"
    yield "diagnosis", "\n".join([*report_lines(check(client)), *stats_lines(client)])
    yield "test event", "\n".join(report_lines(list(send_test_event(client, timeout=0.1))))
    for file in folder.rglob("*"):
        if file.is_file():
            yield f"file {file.name}", file.read_bytes().decode("latin-1")


def test_no_key_is_found_anywhere_after_every_fault_even_if_vendors_repeat_it(
    seed: int, spool: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[object] = []
    with Scene(seed, WEATHER, tmp_path, gossip=True, spool=spool, on_error=told.append) as scene:
        visit(scene.client, Plan(seed, visits=100))
        scene.client.flush(STORMY)
        seen = dict(everything(scene.client, tmp_path))
    seen["log"] = "\n".join(
        record.getMessage() + "".join(traceback.format_exception(*record.exc_info) if record.exc_info else [])
        for record in caplog.records
        if record.name.startswith("sessionsight")
    )
    seen["on_error"] = f"{told} {msgspec.json.encode(told)!r}"
    seen["output"] = "".join(capfd.readouterr())

    assert told, "the weather was too fine to tell anything"
    assert scene.vendors["signal"].diary
    for where, text in seen.items():
        for vendor, key in KEYS.items():
            assert key not in text, f"{vendor}'s key is in: {where}"


def test_haste_and_keys_are_what_the_scene_uses() -> None:
    shown = repr(destinations(dict.fromkeys(KEYS, "http://127.0.0.1:9")))

    assert shown.count("***") == len(KEYS)
    assert HASTE["trust_env"] is False

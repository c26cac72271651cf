"""A disk that is really full: the site keeps serving, no record is lost, and everything is logged and counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sessionsight.delivery.stats import LaneStats
from tests.chaos import full_disk
from tests.chaos.full_disk import KEYED, VISITS, Report

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how a disk is filled is Linux's")

DISKS = full_disk.possible() if sys.platform.startswith("linux") else ["none"]
LANES = ("sessionsight", "signal", "saytics", "analyse")
SERVED = "200 OK welcome"
REFUSED = {"small-disk": "ENOSPC", "size-limit": "EFBIG"}
ERROR = "records are kept in memory until it can be used"


def ledgers(stats: dict[str, LaneStats]) -> dict[str, tuple[int, int, int, dict[str, int]]]:
    """Return captured, delivered, pending and dropped records of each lane."""
    assert not any(lane.dead for lane in stats.values())
    return {name: (lane.captured, lane.delivered, lane.pending, lane.dropped) for name, lane in stats.items()}


def errors(report: Report) -> list[str]:
    return [line for line in report.log if line.startswith(("ERROR", "CRITICAL"))]


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("happening", ["serving", "starting"])
def test_a_site_with_a_full_disk_keeps_serving_and_loses_no_record(disk: str, happening: str, tmp_path: Path) -> None:
    report = full_disk.run(disk, tmp_path, happening)

    served = 3 * VISITS + len(KEYED)
    before = VISITS if happening == "serving" else 0  # captured by this process
    assert report.refused == REFUSED[disk]
    assert report.answers == {SERVED: served - VISITS + before}
    # While it is full: records that could not be written are in memory, and those without a key are delivered from
    # there. A limit on file sizes leaves free pages in the file, so keys may have been checked by then.
    checked = 0 if disk == "small-disk" else len(KEYED)
    assert all(lane.delivered == 0 and lane.dropped.keys() <= {"duplicate"} for lane in report.full.values())
    assert all(lane.dropped.get("duplicate", 0) <= checked for lane in report.full.values())
    assert all(lane.balanced for lane in report.full.values())
    assert all(0 < number <= VISITS + len(KEYED) for number in report.in_memory.values())
    assert not (report.flushed and disk == "small-disk")
    if happening == "serving":  # an open file can still be read
        assert not any("cannot be read" in (lane.last_error or "") for lane in report.full.values())
        captured = 2 * VISITS + len(KEYED)
        known = {name: sum(lane.dropped.values()) for name, lane in report.full.items()}
        assert {name: (lane.captured, lane.pending, lane.dead) for name, lane in report.full.items()} == {
            name: (captured, captured - number, 0) for name, number in known.items()
        }
    # After the disk was freed.
    assert report.drained
    assert report.problems == []
    assert ledgers(report.end) == dict.fromkeys(LANES, (served, 3 * VISITS, 0, {"duplicate": len(KEYED)}))
    assert report.bypassed == report.in_memory
    # The error is logged once, and so is its end.
    assert [ERROR in line and "full" in line for line in errors(report)] == [True]
    for lane in LANES:
        assert sum(line.startswith(f"INFO {lane}: the spool can be written again") for line in report.log) == 1


@pytest.mark.parametrize("disk", DISKS)
def test_records_in_a_file_with_free_pages_are_delivered_while_the_disk_is_full(disk: str, tmp_path: Path) -> None:
    report = full_disk.run(disk, tmp_path, "delivering")

    assert ledgers(report.full) == dict.fromkeys(LANES, (2 * VISITS, VISITS, VISITS, {}))
    assert report.flushed
    assert ledgers(report.end) == dict.fromkeys(LANES, (2 * VISITS, 2 * VISITS, 0, {}))
    assert report.problems == []
    assert [ERROR in line for line in errors(report)] == [True]

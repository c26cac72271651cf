"""Aggregate queries of the store: sessions, goals, health and counts."""

from __future__ import annotations

import sqlite3
from collections import Counter
from itertools import accumulate
from typing import Any

from sessionsight.inspector import visits
from sessionsight.inspector.filters import MAX_ID
from sessionsight.inspector.model import KINDS, VENDORS, Counts, GoalTotal, SessionSummary, Vendor, VendorHealth

__all__ = ["MINUTES", "counts", "goal_series", "goals", "health", "sessions"]

MINUTES = 60
_LATENCY_SAMPLES = 1000

_GOALS = """
    SELECT name AS goal_id, sum(amount >= 0) AS increments, sum(amount < 0) AS decrements,
           total(amount) AS total, max(abs(amount) <> 1) AS money, max(occurred_at) AS last
    FROM records INDEXED BY records_of_goals
    WHERE kind = 'goal' AND accepted AND (:goal_id IS NULL OR name = :goal_id)
    GROUP BY name ORDER BY last DESC, name
"""
_SERIES = """
    WITH span AS (
        SELECT min(occurred_at) AS first, max(occurred_at) AS last
        FROM records WHERE kind = 'goal' AND accepted AND name = :goal_id
    )
    SELECT first, last, total(amount) AS amount,
           min(CAST((occurred_at - first) * :buckets / max(last - first, 1e-6) AS INTEGER), :buckets - 1) AS bucket
    FROM records, span WHERE kind = 'goal' AND accepted AND name = :goal_id
    GROUP BY bucket
"""
# One index range per minute; grouping all records by minute would sort them.
_MINUTES = """
    WITH RECURSIVE minutes (minute) AS (SELECT 0 UNION ALL SELECT minute + 1 FROM minutes WHERE minute < :minutes - 1)
    SELECT minute, (
        SELECT count(*) FROM records INDEXED BY records_by_time
        WHERE vendor = :vendor AND accepted = :accepted
          AND received_at > :now - 60 * (minute + 1) AND received_at <= :now - 60 * minute
    ) AS n FROM minutes
"""
_LATENCIES = "SELECT latency_ms FROM requests WHERE vendor = ? ORDER BY id DESC LIMIT ?"


def counts(db: sqlite3.Connection) -> Counts:
    """Return the numbers of records."""
    vendors, kinds, verdicts = Counter[str](), Counter[str](), Counter[bool]()
    for vendor, kind, accepted, n in _by_kind(db):
        vendors[vendor] += n
        kinds[kind] += n
        verdicts[bool(accepted)] += n
    return Counts(
        total=verdicts.total(),
        accepted=verdicts[True],
        refused=verdicts[False],
        vendors={vendor: vendors[vendor] for vendor in VENDORS},
        kinds={kind: kinds[kind] for kind in KINDS},
    )


def goals(db: sqlite3.Connection, goal_id: str | None = None) -> list[GoalTotal]:
    """Return the totals of all goals, or of one goal."""
    return [
        GoalTotal(
            goal_id=row["goal_id"],
            increments=row["increments"],
            decrements=row["decrements"],
            total=round(row["total"], 6),  # sums of binary fractions: 49.9 - 49.9 must be 0
            count=row["increments"] - row["decrements"],
            money=bool(row["money"]),
            last=row["last"],
        )
        for row in db.execute(_GOALS, {"goal_id": goal_id})
    ]


def goal_series(db: sqlite3.Connection, goal_id: str, buckets: int) -> list[tuple[float, float]]:
    """Return the total at the end of each bucket of time; a single point if all records have the same time."""
    rows = db.execute(_SERIES, {"goal_id": goal_id, "buckets": buckets}).fetchall()
    if not rows:
        return []
    first, last = rows[0]["first"], rows[0]["last"]
    if first == last:
        return [(first, round(sum(row["amount"] for row in rows), 6))]
    amounts = {row["bucket"]: row["amount"] for row in rows}
    step = (last - first) / buckets
    totals = accumulate(amounts.get(bucket, 0.0) for bucket in range(buckets))
    return [(first + step * (bucket + 1), round(total, 6)) for bucket, total in enumerate(totals)]


def sessions(db: sqlite3.Connection, *, limit: int, before: int | None) -> list[SessionSummary]:
    """Return the visits with the newest records."""
    found = visits.recent_visits(db, limit=limit, before=MAX_ID if before is None else before)
    return [_summary(visit, cursor) for visit, cursor in found]


def _summary(visit: visits.LinkedVisit, cursor: int) -> SessionSummary:
    rows = visit.rows

    def latest(column: str) -> Any:
        return next((row[column] for row in reversed(rows) if row[column] is not None), None)

    return SessionSummary(
        session_id=visit.session_id,
        sessions=visit.sessions,
        first=rows[0]["occurred_at"],
        last=rows[-1]["occurred_at"],
        count=len(rows),
        refused=sum(not row["accepted"] for row in rows),
        sides=dict(Counter(row["side"] for row in rows)),
        vendors=dict(Counter(row["vendor"] for row in rows)),
        user_id=visit.user_id,
        visitor_id=latest("visitor_id"),
        windows=list(dict.fromkeys(row["window_id"] for row in rows if row["window_id"] is not None)),
        cursor=cursor,
    )


def health(db: sqlite3.Connection, *, now: float) -> list[VendorHealth]:
    """Return the health of each vendor's endpoints."""
    verdicts: Counter[tuple[str, bool]] = Counter()
    for vendor, _, accepted, n in _by_kind(db):
        verdicts[vendor, bool(accepted)] += n
    series: dict[tuple[Vendor, bool], list[int]] = {}
    for vendor in VENDORS:
        for accepted in (True, False):
            asked = {"now": now, "minutes": MINUTES, "vendor": vendor, "accepted": accepted}
            series[vendor, accepted] = [n for _, n in db.execute(_MINUTES, asked)][::-1]
    statuses: dict[str, dict[str, int]] = {vendor: {} for vendor in VENDORS}
    for row in db.execute("SELECT vendor, status, count(*) AS n FROM requests WHERE vendor NOT NULL GROUP BY 1, 2"):
        statuses[row["vendor"]][str(row["status"])] = row["n"]

    def one(vendor: Vendor) -> VendorHealth:
        latencies = sorted(latency for (latency,) in db.execute(_LATENCIES, (vendor, _LATENCY_SAMPLES)))
        return VendorHealth(
            vendor=vendor,
            accepted=verdicts[vendor, True],
            refused=verdicts[vendor, False],
            requests=sum(statuses[vendor].values()),
            statuses=statuses[vendor],
            latency_p50=_quantile(latencies, 0.5),
            latency_p95=_quantile(latencies, 0.95),
            accepted_series=series[vendor, True],
            refused_series=series[vendor, False],
        )

    return [one(vendor) for vendor in VENDORS]


def _by_kind(db: sqlite3.Connection) -> sqlite3.Cursor:
    return db.execute("SELECT vendor, kind, accepted, count(*) FROM records GROUP BY kind, vendor, accepted")


def _quantile(ordered: list[float], part: float) -> float | None:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else None

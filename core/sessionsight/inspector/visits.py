"""Links the records of one visit across vendors, which do not share a session id.

Records are linked by the ids of the person. A browser's scripts and the server both send the signed-in user, so the ids
of one person are found from record to record: Signal's distinct id, the user, SessionSight's visitor. A goal has only
SessionSight's session id, which is new for each page load. It is linked

- by the visitor, if the browser has sent a goal of that session too, because that one contains the visitor's token;
- by time, if all records that servers sent within two seconds of each of the session's goals are of this visit's
  people.

A record that may belong to two people is linked to neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import msgspec
from msgspec import Struct

__all__ = ["LinkedVisit", "recent_visits", "visit_of"]

_LINKED_WITHIN = 5.0  # seconds around a session; clocks of browser and server differ a little
_SAME_MOMENT = 2.0  # seconds between a goal, delivered at once, and what the same request captured
_SEARCHED = 1800.0  # seconds around a session in which a longer one is searched that may contain it
_MOST_PEOPLE = 20  # an id such as "anonymous" is shared by everybody, and is not followed further
_MOST_BY_TIME = 50  # sessions that are considered for one visit
_PRIMARY_VENDORS = {
    "signal": 0,
    "analyse": 1,
}  # whose session stands for the visit: Signal's knows windows and both sides
_LAST = len(_PRIMARY_VENDORS)

_COLUMNS = "id, occurred_at, vendor, kind, side, accepted, session_id, window_id, visitor_id, user_id"
_OF_SESSION = f"SELECT {_COLUMNS} FROM records WHERE session_id = ? ORDER BY id"  # noqa: S608 - ours, as all below
_ABOUT = f"""
    SELECT {_COLUMNS} FROM records WHERE visitor_id = :person AND occurred_at BETWEEN :since AND :until
    UNION SELECT {_COLUMNS} FROM records WHERE user_id = :person AND occurred_at BETWEEN :since AND :until
"""  # noqa: S608
_PEOPLE_AT = """
    SELECT DISTINCT visitor_id, user_id FROM records
    WHERE side = 'server' AND vendor <> 'sessionsight' AND occurred_at BETWEEN ? AND ?
"""
_ANONYMOUS_GOALS = """
    SELECT DISTINCT session_id FROM records
    WHERE vendor = 'sessionsight' AND visitor_id IS NULL AND session_id IS NOT NULL AND occurred_at BETWEEN ? AND ?
    LIMIT ?
"""
_NEWEST = """
    SELECT session_id, max(id) AS newest FROM records WHERE session_id IS NOT NULL
    GROUP BY session_id HAVING newest < ? ORDER BY newest DESC LIMIT ?
"""
_CURSOR = "SELECT max(id) FROM records WHERE session_id IN (SELECT value FROM json_each(?))"

_NAMING = frozenset({"identify", "alias"})

Rows = Sequence[sqlite3.Row]
Span = tuple[float, float]


class LinkedVisit(Struct, frozen=True):
    """A session, and the records linked to it."""

    session_id: str
    """Session that identifies the visit."""
    rows: Rows
    """In the order in which they occurred, without the columns that only a record's page shows."""
    sessions: list[str]
    """Session ids of all vendors in it."""
    by_time: frozenset[int]
    """Ids of the records that are linked by their time only."""

    @property
    def user_id(self) -> str | None:
        """Latest known user of the visit.

        Signal has one id for users and for browsers, so its plain events count only if no identification and no
        other vendor names the user.
        """
        named = [row for row in self.rows if row["user_id"] is not None]
        certain = [row for row in named if row["vendor"] != "signal" or row["kind"] in _NAMING]
        browsers = {row["visitor_id"] for row in self.rows}
        likely = [row for row in named if row["user_id"] not in browsers]
        return next((row["user_id"] for row in reversed(certain or likely)), None)


def visit_of(db: sqlite3.Connection, session_id: str) -> LinkedVisit | None:
    """Return the visit that contains a session; None if no record has its id."""
    own = _of_session(db, session_id)
    if not own:
        return None
    for leader in _primary_sessions(db, own):
        visit = _link(db, leader, _of_session(db, leader))
        if session_id in visit.sessions:
            return visit
    return _link(db, session_id, own)


def recent_visits(db: sqlite3.Connection, *, limit: int, before: int) -> list[tuple[LinkedVisit, int]]:
    """Return the visits with the newest records, each with the newest record id of its sessions.

    Args:
        db: Database of the store.
        limit: Most visits to return.
        before: Return only visits whose newest record id is lower.
    """
    found: list[tuple[LinkedVisit, int]] = []
    seen: set[str] = set()
    for session_id in _newest_sessions(db, before, 4 * limit):
        if session_id in seen:
            continue
        visit = visit_of(db, session_id)
        if visit is None or visit.session_id in seen:
            continue
        seen.update(visit.sessions, [session_id])
        (cursor,) = db.execute(_CURSOR, (_json(visit.sessions),)).fetchone()
        if cursor < before:
            found.append((visit, cursor))
        if len(found) == limit:
            break
    return found


def _newest_sessions(db: sqlite3.Connection, before: int, batch: int) -> Iterator[str]:
    while rows := db.execute(_NEWEST, (before, batch)).fetchall():
        yield from (row["session_id"] for row in rows)
        before = rows[-1]["newest"]


# --- By person --------------------------------------------------------------------


def _link(db: sqlite3.Connection, session_id: str, own: Rows) -> LinkedVisit:
    """Return a session's own records, and those linked to it."""
    vendors = {row["vendor"] for row in own}
    span = _span(own, _LINKED_WITHIN)
    people, guessed = _people(own), False
    if not people:
        people, guessed = _single_person_at(db, own), True
    about, ours = _records_about(db, people, span, session_id, vendors)
    rows = {row["id"]: row for row in own}
    for row in about:
        if row["session_id"] is None or row["vendor"] not in vendors:
            rows[row["id"]] = row
    sessions = [session_id]
    for other in sorted({row["session_id"] for row in rows.values()} - {None, session_id}):
        whole = _of_session(db, other)
        part = [row for row in whole if row["vendor"] not in vendors and span[0] <= row["occurred_at"] <= span[1]]
        rows.update((row["id"], row) for row in part)
        if len(part) == len(whole):  # otherwise it is listed on its own as well, to show all of its records
            sessions.append(other)
    by_time = set(rows) - {row["id"] for row in own} if guessed else set()
    if "sessionsight" not in vendors:
        for other, goals in _goals_by_time(db, list(rows.values()), ours):
            sessions.append(other)
            rows.update((row["id"], row) for row in goals)
            by_time.update(row["id"] for row in goals)
    ordered = sorted(rows.values(), key=lambda row: (row["occurred_at"], row["id"]))
    return LinkedVisit(session_id, ordered, sessions, frozenset(by_time))


def _records_about(
    db: sqlite3.Connection, people: AbstractSet[str], span: Span, session_id: str | None, vendors: AbstractSet[str]
) -> tuple[list[sqlite3.Row], set[str]]:
    """Return the records of these people in a time span, by any of their ids, and the ids of this session only.

    An id that another session of the same vendor has at the same time is not followed further: a user
    with two devices is one person with two visits.
    """
    rows: dict[int, sqlite3.Row] = {}
    reached, ours, wanted = set(people), set[str](), set(people)
    while wanted:
        further: set[str] = set()
        for person in wanted:
            found = _of_person(db, person, span)
            rows.update((row["id"], row) for row in found)
            if not any(_belongs_to_other_session(row, session_id, vendors) for row in found):
                ours.add(person)
                further |= _people(found)
        wanted = further - reached
        reached |= wanted
        if len(reached) > _MOST_PEOPLE:
            break
    return list(rows.values()), ours


def _belongs_to_other_session(row: sqlite3.Row, session_id: str | None, vendors: AbstractSet[str]) -> bool:
    other = row["session_id"] not in {None, session_id}
    return other and session_id is not None and row["vendor"] in vendors - {"sessionsight"}


def _primary_sessions(db: sqlite3.Connection, own: Rows) -> list[str]:
    """Return the sessions of primary vendors of the same people that last at least as long."""
    rank = min(_rank(row) for row in own)
    if rank == 0:
        return []
    people = _people(own) or {one for row in own for witness in _people_at(db, row) for one in witness}
    about, _ = _records_about(db, people, _span(own, _SEARCHED), None, set())
    led = {row["session_id"]: _rank(row) for row in about if row["session_id"] is not None and _rank(row) < rank}
    since, until = _span(own, 0)
    found = []
    for session_id in sorted(led, key=lambda one: (led[one], one)):
        first, last = _span(_of_session(db, session_id), _LINKED_WITHIN)
        if first <= since and until <= last:  # no other session can contain all of it
            found.append(session_id)
    return found


def _rank(row: sqlite3.Row) -> int:
    return _PRIMARY_VENDORS.get(row["vendor"], _LAST)


# --- By time --------------------------------------------------------------------------------------


def _goals_by_time(db: sqlite3.Connection, rows: Rows, people: AbstractSet[str]) -> list[tuple[str, Rows]]:
    """Return sessions of goals that were sent at the same time as other records of only these people."""
    moments = sorted(
        {row["occurred_at"] for row in rows if row["side"] == "server" and row["vendor"] != "sessionsight"}
    )
    near: dict[str, None] = {}
    for since, until in _time_windows(moments):
        near |= {row["session_id"]: None for row in db.execute(_ANONYMOUS_GOALS, (since, until, _MOST_BY_TIME))}
    found = [(session_id, _of_session(db, session_id)) for session_id in list(near)[:_MOST_BY_TIME]]
    return [(session_id, goals) for session_id, goals in found if _only_these_people(db, goals, people)]


def _time_windows(moments: Sequence[float]) -> Iterator[Span]:
    """Yield the time spans around some moments, merging those that overlap."""
    ends = [earlier for earlier, later in pairwise(moments) if later - earlier > 2 * _SAME_MOMENT]
    begins = [later for earlier, later in pairwise(moments) if later - earlier > 2 * _SAME_MOMENT]
    for first, last in zip([*moments[:1], *begins], [*ends, *moments[-1:]], strict=True):
        yield first - _SAME_MOMENT, last + _SAME_MOMENT


def _people_at(db: sqlite3.Connection, goal: sqlite3.Row) -> list[set[str]]:
    """Return the people of the servers' records at the same moment, each as a set of ids."""
    at = goal["occurred_at"]
    found = [_people([row]) for row in db.execute(_PEOPLE_AT, (at - _SAME_MOMENT, at + _SAME_MOMENT))]
    return [ids for ids in found if ids]


def _only_these_people(db: sqlite3.Connection, goals: Rows, people: AbstractSet[str]) -> bool:
    """Return whether each goal was sent at the same time as records of only these people."""
    for goal in goals:
        present = _people_at(db, goal)
        if not present or not all(ids & people for ids in present):
            return False
    return not _people(goals)  # a goal with ids of its own is not linked by time


def _single_person_at(db: sqlite3.Connection, goals: Rows) -> set[str]:
    """Return the ids of the only person whose records were sent with all of the goals; empty if not exactly one."""
    person: set[str] = set()
    for goal in goals:
        present = _people_at(db, goal)
        if not present:
            return set()
        for ids in sorted(present, key=len, reverse=True):  # a user with a visitor id before either alone
            if person and not ids & person:
                return set()
            person |= ids
    return person


# --- Rows -----------------------------------------------------------------------------------------


def _of_session(db: sqlite3.Connection, session_id: str) -> Rows:
    return db.execute(_OF_SESSION, (session_id,)).fetchall()


def _of_person(db: sqlite3.Connection, person: str, span: Span) -> Rows:
    return db.execute(_ABOUT, {"person": person, "since": span[0], "until": span[1]}).fetchall()


def _people(rows: Iterable[sqlite3.Row]) -> set[str]:
    """Return all ids of people. A visitor id of one vendor can be a user id of another."""
    return {row[column] for row in rows for column in ("visitor_id", "user_id")} - {None}


def _span(rows: Rows, margin: float) -> Span:
    times = [row["occurred_at"] for row in rows]
    return min(times) - margin, max(times) + margin


def _json(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()

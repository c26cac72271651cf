"""Which records belong to one visit, although no session id goes to two vendors.

What ties them is whom they are about. A browser's scripts and the server both say who has signed in, so one
person's ids are found from record to record: Signal's distinct id, the user, SessionSight's visitor. A goal bears
nothing but SessionSight's session id, of which each page load has a new one. It is tied

- by the visitor, when the browser has sent a goal of that session too: that one bears the visitor's token;
- by time, when all that servers sent within two seconds of each of the session's goals is about this visit's people.

What may be two people's is tied to neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

import msgspec
from msgspec import Struct

__all__ = ["LinkedVisit", "tied", "visits"]

_TIED_WITHIN = 5.0  # seconds around a session; clocks of browser and server differ a little
_SAME_MOMENT = 2.0  # seconds between a goal, delivered at once, and what the same request captured
_SEARCHED = 1800.0  # seconds around a session in which a longer one is looked for that it may be part of
_MOST_PEOPLE = 20  # an id such as "anonymous" is borne by everybody; it leads no further
_MOST_BY_TIME = 50  # sessions that are looked at for one visit
_LEADING = {"signal": 0, "analyse": 1}  # whose session stands for the visit: Signal's knows windows and both sides
_LAST = len(_LEADING)

_COLUMNS = "id, occurred_at, vendor, kind, side, accepted, session_id, window_id, visitor_id, user_id"
_OF_SESSION = f"SELECT {_COLUMNS} FROM records WHERE session_id = ? ORDER BY id"  # noqa: S608 - ours, as all below
_ABOUT = f"""
    SELECT {_COLUMNS} FROM records WHERE visitor_id = :person AND occurred_at BETWEEN :since AND :until
    UNION SELECT {_COLUMNS} FROM records WHERE user_id = :person AND occurred_at BETWEEN :since AND :until
"""  # noqa: S608
_WITNESSES = """
    SELECT DISTINCT visitor_id, user_id FROM records
    WHERE side = 'server' AND vendor <> 'sessionsight' AND occurred_at BETWEEN ? AND ?
"""
_OF_NOBODY = """
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
    """A visit: a session, and what is tied to it."""

    session_id: str
    """The session that stands for it."""
    rows: Rows
    """As they occurred, without what only a record's page shows."""
    sessions: list[str]
    """The ids of all vendors' sessions in it."""
    by_time: frozenset[int]
    """The records that only their time ties to it."""

    @property
    def user_id(self) -> str | None:
        """The latest user that the visit is known to be of.

        Signal has one id for users and for browsers, so its plain events count only where no identification and no
        other vendor names the user.
        """
        named = [row for row in self.rows if row["user_id"] is not None]
        certain = [row for row in named if row["vendor"] != "signal" or row["kind"] in _NAMING]
        browsers = {row["visitor_id"] for row in self.rows}
        likely = [row for row in named if row["user_id"] not in browsers]
        return next((row["user_id"] for row in reversed(certain or likely)), None)


def tied(db: sqlite3.Connection, session_id: str) -> LinkedVisit | None:
    """The visit that a session is part of; None when no record bears its id."""
    own = _of_session(db, session_id)
    if not own:
        return None
    for leader in _leaders(db, own):
        visit = _gather(db, leader, _of_session(db, leader))
        if session_id in visit.sessions:
            return visit
    return _gather(db, session_id, own)


def visits(db: sqlite3.Connection, *, limit: int, before: int) -> list[tuple[LinkedVisit, int]]:
    """The visits with the newest records, each with the newest id in any of its sessions.

    Args:
        db: The store's database.
        limit: How many.
        before: Such an id; a visit that reaches it has been told before.
    """
    found: list[tuple[LinkedVisit, int]] = []
    seen: set[str] = set()
    for session_id in _newest_sessions(db, before, 4 * limit):
        if session_id in seen:
            continue
        visit = tied(db, session_id)
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


# --- By whom records are about --------------------------------------------------------------------


def _gather(db: sqlite3.Connection, session_id: str, own: Rows) -> LinkedVisit:
    """A session's own records, and those that are tied to it."""
    vendors = {row["vendor"] for row in own}
    span = _span(own, _TIED_WITHIN)
    people, guessed = _people(own), False
    if not people:
        people, guessed = _person_at(db, own), True
    about, ours = _about(db, people, span, session_id, vendors)
    rows = {row["id"]: row for row in own}
    for row in about:
        if row["session_id"] is None or row["vendor"] not in vendors:
            rows[row["id"]] = row
    sessions = [session_id]
    for other in sorted({row["session_id"] for row in rows.values()} - {None, session_id}):
        whole = _of_session(db, other)
        part = [row for row in whole if row["vendor"] not in vendors and span[0] <= row["occurred_at"] <= span[1]]
        rows.update((row["id"], row) for row in part)
        if len(part) == len(whole):  # else it is told by itself as well, so that nothing goes unseen
            sessions.append(other)
    by_time = set(rows) - {row["id"] for row in own} if guessed else set()
    if "sessionsight" not in vendors:
        for other, goals in _goals_by_time(db, list(rows.values()), ours):
            sessions.append(other)
            rows.update((row["id"], row) for row in goals)
            by_time.update(row["id"] for row in goals)
    ordered = sorted(rows.values(), key=lambda row: (row["occurred_at"], row["id"]))
    return LinkedVisit(session_id, ordered, sessions, frozenset(by_time))


def _about(
    db: sqlite3.Connection, people: AbstractSet[str], span: Span, session_id: str | None, vendors: AbstractSet[str]
) -> tuple[list[sqlite3.Row], set[str]]:
    """What is about these people in that time, under whatever id, and the ids that are this session's alone.

    An id that another session of the same vendor has as well, at the same time, leads to no further ids: a user
    at two devices is one person, but their visits are two.
    """
    rows: dict[int, sqlite3.Row] = {}
    reached, ours, wanted = set(people), set[str](), set(people)
    while wanted:
        further: set[str] = set()
        for person in wanted:
            found = _of_person(db, person, span)
            rows.update((row["id"], row) for row in found)
            if not any(_rivals(row, session_id, vendors) for row in found):
                ours.add(person)
                further |= _people(found)
        wanted = further - reached
        reached |= wanted
        if len(reached) > _MOST_PEOPLE:
            break
    return list(rows.values()), ours


def _rivals(row: sqlite3.Row, session_id: str | None, vendors: AbstractSet[str]) -> bool:
    other = row["session_id"] not in {None, session_id}
    return other and session_id is not None and row["vendor"] in vendors - {"sessionsight"}


def _leaders(db: sqlite3.Connection, own: Rows) -> list[str]:
    """The sessions of a vendor that leads, which are about the same people and last at least as long."""
    rank = min(_rank(row) for row in own)
    if rank == 0:
        return []
    people = _people(own) or {one for row in own for witness in _witnesses(db, row) for one in witness}
    about, _ = _about(db, people, _span(own, _SEARCHED), None, set())
    led = {row["session_id"]: _rank(row) for row in about if row["session_id"] is not None and _rank(row) < rank}
    since, until = _span(own, 0)
    found = []
    for session_id in sorted(led, key=lambda one: (led[one], one)):
        first, last = _span(_of_session(db, session_id), _TIED_WITHIN)
        if first <= since and until <= last:  # no other can have it whole
            found.append(session_id)
    return found


def _rank(row: sqlite3.Row) -> int:
    return _LEADING.get(row["vendor"], _LAST)


# --- By time --------------------------------------------------------------------------------------


def _goals_by_time(db: sqlite3.Connection, rows: Rows, people: AbstractSet[str]) -> list[tuple[str, Rows]]:
    """Sessions of goals that came when a server sent something else of these people, and nothing of others."""
    moments = sorted(
        {row["occurred_at"] for row in rows if row["side"] == "server" and row["vendor"] != "sessionsight"}
    )
    near: dict[str, None] = {}
    for since, until in _stretches(moments):
        near |= {row["session_id"]: None for row in db.execute(_OF_NOBODY, (since, until, _MOST_BY_TIME))}
    found = [(session_id, _of_session(db, session_id)) for session_id in list(near)[:_MOST_BY_TIME]]
    return [(session_id, goals) for session_id, goals in found if _same_people(db, goals, people)]


def _stretches(moments: Sequence[float]) -> Iterator[Span]:
    """The times around some moments, those that overlap as one."""
    ends = [earlier for earlier, later in pairwise(moments) if later - earlier > 2 * _SAME_MOMENT]
    begins = [later for earlier, later in pairwise(moments) if later - earlier > 2 * _SAME_MOMENT]
    for first, last in zip([*moments[:1], *begins], [*ends, *moments[-1:]], strict=True):
        yield first - _SAME_MOMENT, last + _SAME_MOMENT


def _witnesses(db: sqlite3.Connection, goal: sqlite3.Row) -> list[set[str]]:
    """Whom the servers' records of the same moment are about, each by its ids."""
    at = goal["occurred_at"]
    found = [_people([row]) for row in db.execute(_WITNESSES, (at - _SAME_MOMENT, at + _SAME_MOMENT))]
    return [ids for ids in found if ids]


def _same_people(db: sqlite3.Connection, goals: Rows, people: AbstractSet[str]) -> bool:
    """Whether each of the goals came with records of these people, and of nobody else."""
    for goal in goals:
        witnesses = _witnesses(db, goal)
        if not witnesses or not all(ids & people for ids in witnesses):
            return False
    return not _people(goals)  # of which the browser has told another's: no need to guess


def _person_at(db: sqlite3.Connection, goals: Rows) -> set[str]:
    """The one person that all of the goals came with; nobody where there are several, or none."""
    person: set[str] = set()
    for goal in goals:
        witnesses = _witnesses(db, goal)
        if not witnesses:
            return set()
        for ids in sorted(witnesses, key=len, reverse=True):  # a user with their visitor id comes before either
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
    """What is a visitor's id to one vendor may be a user's to another."""
    return {row[column] for row in rows for column in ("visitor_id", "user_id")} - {None}


def _span(rows: Rows, margin: float) -> Span:
    times = [row["occurred_at"] for row in rows]
    return min(times) - margin, max(times) + margin


def _json(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()

"""A visit is put together from the sessions of all vendors, and from records without one."""

import itertools
from typing import Any

import pytest

from sessionsight.inspector.model import InspectedRecord, SessionSummary
from sessionsight.inspector.store import Store
from tests.core.inspector.samples import START, goal, keep, record

VISIT = "signal-1"
AT_SIGNAL = {"session_id": VISIT, "window_id": "w"}
VISITOR = "4f9c5a36-6a4e-4d0e-8f0b-0f5f6f6c2a11"  # SessionSight's
ANONYMOUS = "aa10c7b2-5a0f-4b7c-8d6e-0c9d2a4f7e55"  # Analyse.net's
DISTINCT = "b6d51c3e-0f4a-4d7e-9a52-6c1e8d2b7f90"  # Signal's


def browser(seconds: float, /, **changes: Any) -> InspectedRecord:
    return record(seconds, side="browser", name="$pageview", **{**AT_SIGNAL, **changes})


def at_analyse(seconds: float, /, **changes: Any) -> InspectedRecord:
    given = {"visitor_id": ANONYMOUS, "session_id": "analyse-1", "vendor": "analyse", "side": "browser"}
    return record(seconds, **{**given, **changes})


def at_saytics(seconds: float, /, **changes: Any) -> InspectedRecord:
    return record(seconds, **{"vendor": "saytics", "visitor_id": VISITOR, **changes})


def told(store: Store, session_id: str = VISIT) -> list[int]:
    return [one.id for one in store.session(session_id)]


def by_time(store: Store, session_id: str = VISIT) -> frozenset[int]:
    visit = store.visit(session_id)
    assert visit is not None
    return visit.linked_by_time


def signed_up(store: Store, **signal: Any) -> list[InspectedRecord]:
    """A browser looks around at second 0, signs up at 30, and is still there at 60."""
    return keep(
        store,
        browser(0, visitor_id=DISTINCT),
        at_analyse(0.1),
        at_saytics(10, name="Product Viewed"),
        at_saytics(30, user_id="user_1", name="signup_completed"),
        browser(31, user_id="user_1", **signal),
        at_analyse(31.1, user_id="user_1", name="$identify"),
        browser(60, user_id="user_1", **signal),
    )


def test_ids_lead_from_record_to_record_to_what_was_sent_before_the_sign_up(store: Store) -> None:
    visit = signed_up(store)
    keep(store, at_saytics(10, visitor_id="of somebody else"), at_saytics(4000))
    assert told(store) == [one.id for one in visit]
    assert by_time(store) == frozenset()


def test_any_of_its_sessions_names_the_visit(store: Store) -> None:
    signed_up(store)
    assert store.visit("analyse-1") == store.visit(VISIT)
    assert store.visit("none") is None


def test_a_browsers_goal_ties_the_servers_goals_of_the_same_page(store: Store) -> None:
    visit = signed_up(store)
    keep(store, goal(29, side="browser", visitor_id=VISITOR, session_id="page-3"), goal(50, session_id="page-3"))
    assert sorted(told(store)) == [one.id for one in visit] + [8, 9]
    assert by_time(store) == frozenset()
    assert told(store, "page-3") == told(store)


def test_goals_are_tied_by_the_time_of_what_the_server_sent_besides(store: Store) -> None:
    visit = signed_up(store)
    (tied, _) = keep(store, goal(31.5, session_id="page-3"), goal(45, session_id="page-4"))
    assert sorted(told(store)) == [one.id for one in [*visit, tied]]
    assert by_time(store) == {tied.id}
    assert told(store, "page-3") == told(store)
    assert told(store, "page-4") == [9]


@pytest.mark.parametrize(
    "else_there",
    [
        at_saytics(31, visitor_id="of somebody else"),
        record(29.9, user_id="user_2"),
        goal(45, session_id="page-3"),
        goal(30, session_id="page-3", side="browser", visitor_id="of somebody else"),
    ],
    ids=["another visitor", "another user", "another of its goals at no such time", "a goal with another's token"],
)
def test_a_goal_that_may_be_anothers_is_not_tied(store: Store, else_there: InspectedRecord) -> None:
    signed_up(store)
    (doubtful,) = keep(store, goal(30.5, session_id="page-3"))
    assert by_time(store) == {doubtful.id}
    keep(store, else_there)
    assert doubtful.id not in told(store)
    assert by_time(store) == frozenset()


def test_what_browsers_send_ties_no_goal_by_time(store: Store) -> None:
    signed_up(store)
    (alone,) = keep(store, goal(60, session_id="page-5"))
    assert alone.id not in told(store)


def test_what_another_browser_sends_meanwhile_makes_no_goal_doubtful(store: Store) -> None:
    signed_up(store)
    keep(store, at_analyse(30, visitor_id="of somebody else", session_id="analyse-2"))
    (tied,) = keep(store, goal(30.5, session_id="page-3"))
    assert by_time(store) == {tied.id}


def test_a_session_that_outlasts_the_leading_one_is_shown_whole(store: Store) -> None:
    visit = signed_up(store)
    (late,) = keep(store, at_analyse(600, user_id="user_1"))
    assert sorted(told(store, "analyse-1")) == [*(one.id for one in visit), late.id]
    assert sorted(told(store)) == [one.id for one in visit]
    assert [one.session_id for one in store.sessions()] == ["analyse-1"]


def test_a_part_of_another_session_is_in_the_visit_and_the_whole_is_listed_by_itself(store: Store) -> None:
    signed_up(store)
    keep(store, goal(29, side="browser", visitor_id=VISITOR, session_id="page-3"), goal(900, session_id="page-3"))
    (later, _) = keep(store, browser(61, user_id="user_1"), record(2000, session_id="signal-2"))
    assert [one.id for one in store.session(VISIT) if one.vendor == "sessionsight"] == [8]
    assert 9 in told(store, "page-3")
    assert [one.session_id for one in store.sessions()] == ["signal-2", VISIT, "page-3"]
    assert later.id in told(store)


def test_without_a_leading_vendor_a_goals_session_shows_what_came_with_it(store: Store) -> None:
    (viewed, bought) = keep(store, at_saytics(0), goal(1, session_id="page-1"))
    assert told(store, "page-1") == [viewed.id, bought.id]
    assert by_time(store, "page-1") == {viewed.id}
    keep(store, at_saytics(1, visitor_id="of somebody else"))
    assert told(store, "page-1") == [bought.id]


def test_a_user_at_two_devices_has_two_visits(store: Store) -> None:
    signed_up(store)
    elsewhere = {"session_id": "signal-2", "user_id": "user_1"}
    keep(store, browser(20, **elsewhere), browser(40, **elsewhere), goal(30, session_id="page-3"))
    assert {one.visitor_id for one in store.session("signal-2")} == {None, VISITOR, ANONYMOUS}
    before_sign_up = [one.name for one in store.session("signal-2") if one.user_id is None]
    assert before_sign_up == [], "which of the two devices it was is not known"
    assert by_time(store) == by_time(store, "signal-2") == frozenset()
    assert [one.session_id for one in store.session("page-3")] != [], "what is neither's has a page of its own"
    assert store.visit("page-3") not in (store.visit(VISIT), store.visit("signal-2"))


def test_an_id_that_everybody_has_leads_no_further(store: Store) -> None:
    keep(store, browser(0, user_id="anonymous"), browser(60, user_id="anonymous"))
    keep(store, *(at_saytics(30, visitor_id=f"visitor {n}", user_id="anonymous") for n in range(30)))
    keep(store, *(at_saytics(40, visitor_id=f"visitor {n}") for n in range(30)))
    assert {one.occurred_at - START for one in store.session(VISIT) if one.vendor == "saytics"} == {30}


def test_a_visit_is_listed_once_with_all_that_is_tied_to_it(store: Store) -> None:
    visit = signed_up(store)
    keep(store, goal(30.5, session_id="page-3"), goal(45, session_id="page-4"))
    alone, together = store.sessions()
    assert (alone.session_id, alone.count) == ("page-4", 1)
    assert together == SessionSummary(
        session_id=VISIT,
        sessions=[VISIT, "analyse-1", "page-3"],
        first=visit[0].occurred_at,
        last=visit[-1].occurred_at,
        count=8,
        refused=0,
        sides={"browser": 5, "server": 3},
        vendors={"signal": 3, "analyse": 2, "saytics": 2, "sessionsight": 1},
        user_id="user_1",
        visitor_id=ANONYMOUS,
        windows=["w"],
        cursor=8,
    )


def test_each_visit_is_on_one_page_of_the_list(store: Store) -> None:
    for number in range(6):
        at, user = 1000 * number, f"user_{number}"
        person = {"visitor_id": f"visitor-{number}", "user_id": user}
        keep(store, browser(at, session_id=f"signal-{number}", user_id=user), at_saytics(at, **person))
    for number in reversed(range(6)):
        keep(store, goal(1000 * number, session_id=f"page-{number}"))
    pages: list[list[str]] = []
    before: int | None = None
    while page := store.sessions(limit=2, before=before):
        pages.append([one.session_id for one in page])
        before = page[-1].cursor
    assert pages == [["signal-0", "signal-1"], ["signal-2", "signal-3"], ["signal-4", "signal-5"]]
    assert list(itertools.chain(*pages)) == [one.session_id for one in store.sessions()]


# --- Whom a visit is headed by ------------------------------------------------------------------------


def headed_by(store: Store) -> str | None:
    (summary,) = store.sessions(limit=10)
    visit = store.visit(summary.session_id)
    assert visit is not None
    assert visit.user_id == summary.user_id
    return visit.user_id


def test_a_visit_is_headed_by_whom_it_identified_whatever_id_its_events_bear(store: Store) -> None:
    keep(store, browser(0, user_id="anon-7"), browser(1, user_id="user_1", kind="identify"))
    keep(store, browser(2, user_id="anon-7"), record(3, user_id="anon-7", **AT_SIGNAL))
    assert headed_by(store) == "user_1"


def test_an_alias_names_the_user_and_not_the_earlier_id(store: Store) -> None:
    keep(store, browser(0, user_id="anon-7"))
    keep(store, browser(1, user_id="user_1", visitor_id="anon-7", kind="alias"))
    keep(store, browser(2, user_id="anon-7"))
    assert headed_by(store) == "user_1"


def test_another_vendors_user_counts_more_than_signals_single_id(store: Store) -> None:
    keep(store, browser(0, user_id="anon-7"), at_saytics(1, visitor_id="anon-7", user_id="user_1"))
    keep(store, browser(2, user_id="anon-7"))
    assert headed_by(store) == "user_1"


def test_the_latest_of_two_users_heads_a_visit(store: Store) -> None:
    keep(store, browser(0, user_id="user_1", kind="identify"), browser(1, user_id="user_2", kind="identify"))
    assert headed_by(store) == "user_2"


def test_without_any_name_signals_id_heads_the_visit(store: Store) -> None:
    keep(store, browser(0, user_id="anon-7"))
    assert headed_by(store) == "anon-7"


def test_a_session_that_is_only_near_another_one_of_a_visit_does_not_list_the_visit_again(store: Store) -> None:
    keep(store, goal(12, session_id="page-9", visitor_id="user_1"))
    keep(store, at_analyse(3, visitor_id="user_1"), at_analyse(9, visitor_id="user_1"))
    keep(store, browser(0, user_id="user_1"), browser(5, user_id="user_1"))
    assert set(told(store)) == {2, 3, 4, 5}
    assert set(told(store, "page-9")) == {1, 2, 3, 4, 5}
    assert [visit.session_id for visit in store.sessions()] == [VISIT]

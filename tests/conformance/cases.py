"""The first conformance table: what happens in a request, told once for every framework.

What must come out of each is in `expected/<name>.json`, next to this file.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sessionsight import (
    Analytics,
    CheckoutFinished,
    ContentViewed,
    SubscriptionCancelled,
    TrackingContext,
    TrialEnded,
    current,
)
from sessionsight.request.page_config import browser_config

SESSION = "0b54ad6e-95f8-4d9c-8a51-2f2bd67a9a0c"
VISITOR = "8f14e45f-ceea-467f-a8f0-1c2d3e4f5a6b"
IDS = f"ss_vid={VISITOR}; ss_sid={SESSION}"
SIGNAL_HEADERS = (
    ("X-Signal-Session-Id", "signal-session-1"),
    ("X-Signal-Window-Id", "signal-window-1"),
    ("X-Signal-Distinct-Id", "signal-person-1"),
)
USER_HEADER = "X-Test-User"
"""Every app of the table signs this user in, in its framework's own way."""


class ViewError(Exception):
    """Raised by a view."""


@dataclass(frozen=True)
class Visit:
    """Arguments of a view from its app."""

    analytics: Analytics
    load_user: Callable[[], object]
    """Make the framework load the signed-in user, as a view does that asks for it."""
    sign_in: Callable[[str], None]
    sign_out: Callable[[], None]
    later: list[Callable[[], object]]
    """To be run in a thread when the response has long ended."""


Result = str | dict[str, Any] | Iterator[bytes] | None
"""Response of a view: a text, JSON, a stream; None is the text "ok"."""


@dataclass(frozen=True)
class Case:
    """One request, and what its view does."""

    view: Callable[[Visit], Result]
    cookie: str | None = IDS
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    rest: str = ""
    """Rest of the path, percent-encoded."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.view.__name__


CASES: dict[str, Case] = {}


def case(**options: Any) -> Callable[[Callable[[Visit], Result]], Callable[[Visit], Result]]:
    """Make a case of a view."""

    def add(view: Callable[[Visit], Result]) -> Callable[[Visit], Result]:
        CASES[view.__name__] = Case(view, **options)
        return view

    return add


# --- Whose it is: cookies, headers, page -----------------------------------------------------------


@case()
def event_of_a_visitor(visit: Visit) -> None:
    visit.analytics.capture("order_processed", {"order_id": "ord_1", "amount": Decimal("49.90"), "items": [1, 2]})


@case(cookie=None)
def nobody(visit: Visit) -> None:
    visit.analytics.capture("page_seen")
    visit.analytics.goals.increment("signups")


@case(cookie="theme=dark; ss_sid; =x; ss_sid=%30b54ad6e-95f8%2D4d9c; ss_vid=caf%C3%A9")
def percent_encoded_cookies(visit: Visit) -> None:
    both(visit)


@case(cookie=f'ss_sid="{SESSION}"; ss_vid={VISITOR}')
def quotes_are_part_of_a_cookie(visit: Visit) -> None:
    both(visit)


@case(cookie="ss_sid=first; ss_vid=first-visitor; ss_sid=last; SS_SID=shouted; ss_vid=last-visitor")
def last_of_two_cookies_counts(visit: Visit) -> None:
    both(visit)


@case(cookie=f"{IDS}; ss_sid=")
def last_cookie_counts_even_if_empty(visit: Visit) -> None:
    both(visit)


@case(cookie=f"ss_sid={'a' * 129}; ss_vid={VISITOR}")
def ids_that_no_vendor_takes_are_missing(visit: Visit) -> None:
    both(visit)


@case(headers=SIGNAL_HEADERS)
def signal_headers(visit: Visit) -> None:
    both(visit)


@case(cookie=None, headers=(("X-Signal-Session-Id", "signal-session-1"),))
def signal_session_goes_to_signal_alone(visit: Visit) -> None:
    visit.analytics.capture("page_seen", user_id="user_1")
    visit.analytics.goals.increment("signups")


@case(
    query="utm_source=newsletter&token=secret&utm_campaign=spring%20sale&utm_term=",
    headers=(("Referer", "https://User:pw@News.Example:8443/a%20b?token=secret&utm_source=x#part"),),
)
def page_and_campaign(visit: Visit) -> None:
    visit.analytics.capture("page_seen")


@case(rest="/caf%C3%A9/%E6%9D%B1%E4%BA%AC%20a%2Bb")
def path_beyond_ascii(visit: Visit) -> None:
    visit.analytics.capture("page_seen", {"city": "東京", "emoji": "\N{ROCKET}"})


@case(headers=SIGNAL_HEADERS, query="utm_medium=mail")
def context_as_a_carrier(visit: Visit) -> dict[str, Any]:
    return visit.analytics.context.to_carrier()


@case(cookie=f"{IDS}; aid=cookie-anon", settings={"anonymous_id_cookie": "aid", "anonymous_id_header": "X-Anon"})
def own_anonymous_id_from_a_cookie(visit: Visit) -> None:
    visit.analytics.capture("page_seen")


@case(
    cookie=f"{IDS}; aid=cookie-anon",
    headers=(("X-Anon", "header-anon"),),
    settings={"anonymous_id_cookie": "aid", "anonymous_id_header": "X-Anon"},
)
def own_anonymous_id_from_a_header(visit: Visit) -> None:
    visit.analytics.capture("page_seen")


# --- Who it is ---------------------------------------------------------------------------------------


@case(headers=((USER_HEADER, "user_7"),))
def signed_in_user(visit: Visit) -> None:
    visit.load_user()
    both(visit)


@case(headers=((USER_HEADER, "user_7"), *SIGNAL_HEADERS))
def explicit_user_goes_before_the_signed_in_one(visit: Visit) -> None:
    visit.load_user()
    visit.analytics.capture("first", user_id=UUID(int=9))
    visit.analytics.capture("second")
    visit.analytics.capture("third", distinct_id="signal-only", anonymous_id="anonymous-only")


@case()
def identify_completes_what_came_before(visit: Visit) -> None:
    visit.analytics.capture("before")
    visit.analytics.capture("of_another", user_id="user_8")
    visit.analytics.identify("user_9", {"plan": "pro", "name": "Ada"})
    visit.analytics.capture("after")


@case(headers=((USER_HEADER, "user_7"),))
def identify_takes_the_signed_in_user(visit: Visit) -> None:
    visit.load_user()
    visit.analytics.identify(traits={"plan": "pro"})


@case()
def login_completes_what_came_before(visit: Visit) -> None:
    visit.analytics.capture("before")
    visit.sign_in("user_10")
    visit.analytics.capture("after")


@case()
def login_as_the_last_thing(visit: Visit) -> None:
    visit.analytics.capture("before")
    visit.sign_in("user_10")


@case(headers=((USER_HEADER, "user_7"),))
def logout_keeps_its_user(visit: Visit) -> None:
    visit.load_user()
    visit.analytics.capture("before")
    visit.sign_out()
    visit.analytics.capture("after")


@case(settings={"user": lambda request: "user_of_the_app"})
def user_by_the_sites_own_function(visit: Visit) -> None:
    visit.analytics.capture("page_seen")


# --- What is captured --------------------------------------------------------------------------------


@case()
def typed_events(visit: Visit) -> None:
    visit.analytics.capture(
        CheckoutFinished(
            payment_type="subscription", billing_interval="month", amount=4900, currency="USD", plan="pro"
        ),
        {"coupon_source": "mail"},
    )
    visit.analytics.capture(CheckoutFinished(payment_type="one_time", amount=4900, currency="JPY"))
    visit.analytics.capture(ContentViewed(content_id="post_1", title="Hello"))
    visit.analytics.capture(TrialEnded(plan="pro", converted=True))
    visit.analytics.capture(SubscriptionCancelled(plan="pro", reason="user_request"))


@case()
def goals(visit: Visit) -> None:
    goals = visit.analytics.goals
    goals.increment("user-signups")
    goals.increment("monthly-revenue", 49)
    goals.increment("monthly-revenue", amount=Decimal("49.90"), metadata={"plan": "pro", "seats": 3, "yearly": True})
    goals.decrement("monthly-revenue", 0.5, metadata={"card": "4242 4242 4242 4242", "reason": "refund"})
    goals.increment("elsewhere", session_id="another-session")
    goals.increment("not-for-the-events", destinations=["sessionsight"])


@case(headers=((USER_HEADER, "user_1"),))
def flags(visit: Visit) -> None:
    visit.load_user()
    assert visit.analytics.context.user_id == "user_1"
    # In a thread, because some frameworks call views on their event loop.
    thread = threading.Thread(target=visit.analytics.flags.target(plan="pro").all)
    thread.start()
    thread.join()


@case()
def feedback(visit: Visit) -> None:
    visit.analytics.feedback.submit("nps", option="9", message="Caf\u00e9", metadata={"plan": "pro", "seats": 3})
    visit.analytics.feedback.submit("bug-report", session_id="another-session")


@case()
def a_goal_twice_with_one_key(visit: Visit) -> None:
    visit.analytics.goals.increment("orders", key="order:123:paid")
    visit.analytics.goals.increment("orders", key="order:123:paid")
    visit.analytics.goals.increment("orders", key="order:124:paid")
    visit.analytics.goals.decrement("orders", key="order:124:paid")


@case()
def an_event_twice_with_one_key(visit: Visit) -> None:
    visit.analytics.capture("order_paid", {"attempt": 1}, key="order:123")
    visit.analytics.capture("order_paid", {"attempt": 2}, key="order:123")


@case()
def people_and_groups(visit: Visit) -> None:
    analytics = visit.analytics
    analytics.alias("anonymous-1", user_id="user_1")
    analytics.group("company", "acme-1", {"seats": 5}, user_id="user_1")
    analytics.set_person_properties({"plan": "pro"}, user_id="user_1")
    analytics.set_person_properties_once({"first_seen": "today"}, user_id="user_1")
    analytics.capture("page_seen", user_id="user_1", groups={"company": "acme-1"})


@case()
def tags(visit: Visit) -> None:
    visit.analytics.capture("before")
    visit.analytics.tag(experiment="b", plan="free")
    visit.analytics.capture("after", {"plan": "pro"})
    visit.analytics.tag(experiment="c")
    visit.analytics.capture("last")


@case()
def given_time_and_destinations(visit: Visit) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
    visit.analytics.capture("imported", timestamp=at)
    visit.analytics.capture("for_one", timestamp=at, destinations="analyse")
    visit.analytics.capture("for_two", timestamp=at, destinations={"saytics", "signal"}, user_id="user_1")


@case()
def later_changes_do_not_count(visit: Visit) -> None:
    properties = {"items": ["a"]}
    visit.analytics.capture("page_seen", properties)
    properties["items"].append("b")


@case()
def below_the_view(visit: Visit) -> None:
    def deep_down() -> None:
        current().capture("deep_down")

    deep_down()


# --- How a request may end -----------------------------------------------------------------------------


@case()
def view_that_fails(visit: Visit) -> None:
    visit.analytics.capture("before_the_failure")
    raise ViewError


@case()
def stream(visit: Visit) -> Iterator[bytes]:
    visit.analytics.capture("before_the_stream")

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            current().capture("chunk_made", {"number": number})
            yield b"x" * (number + 1)
        visit.analytics.capture("stream_ended")

    return chunks()


@case(headers=((USER_HEADER, "user_7"),))
def thread_after_the_response(visit: Visit) -> None:
    visit.load_user()
    analytics = visit.analytics
    visit.later.append(lambda: analytics.capture("mail_sent"))


@case()
def discarded(visit: Visit) -> None:
    visit.analytics.capture("mistake")
    visit.analytics.discard()
    visit.analytics.capture("kept")


# --- What is refused -------------------------------------------------------------------------------------


@case(settings={"strict": False})
def wrong_calls_in_production(visit: Visit) -> None:
    analytics = visit.analytics
    circular: list[Any] = []
    circular.append(circular)
    analytics.capture("")
    analytics.capture(None)  # type: ignore[arg-type]
    analytics.capture("circular", {"list": circular})
    analytics.capture("large", {"text": "x" * 70_000})
    analytics.capture("odd_user", user_id=object())
    analytics.goals.increment("signups", 0)
    analytics.goals.increment("signups", True)
    analytics.goals.increment("signups", "1")  # type: ignore[arg-type]
    analytics.capture("unknown_option", user="user_1")  # type: ignore[call-arg]
    analytics.capture("right", {"odd": object(), "nan": float("nan")})


@case(headers=(("Sec-GPC", "1"),), settings={"consent": "gpc"})
def consent_refused(visit: Visit) -> None:
    both(visit)


@case(
    headers=(("Sec-GPC", "1"), (USER_HEADER, "ada"), *SIGNAL_HEADERS),
    query="utm_source=mail",
    settings={"consent": "gpc", "user": lambda request: "ada"},
)
def consent_refused_travels(visit: Visit) -> str:
    visit.load_user()
    visit.analytics.identify("ada")
    visit.analytics.capture("page_seen", user_id="ada", distinct_id="ada")
    carrier = visit.analytics.context.to_carrier()
    for context in (TrackingContext.from_carrier(carrier), pickle.loads(pickle.dumps(visit.analytics.context))):
        job = Analytics._for_context(visit.analytics._scope._client, context, user_id="ada", distinct_id="ada")
        job.identify("ada")
        both(Visit(job, visit.load_user, visit.sign_in, visit.sign_out, visit.later))
        job.capture("order_processed", user_id="ada")
    visit.later.append(lambda: visit.analytics.capture("receipt_sent", user_id="ada"))
    return f"carrier: {carrier}, page: {browser_config(visit.analytics.context)}"


@case(cookie=f"{IDS}; ss_opted_out=1", headers=SIGNAL_HEADERS)
def consent_refused_in_another_service(visit: Visit) -> str:
    both(visit)
    visit.analytics.capture("order_processed", user_id="user_1")
    return f"carrier: {visit.analytics.context.to_carrier()}"


@case(headers=(("DNT", "1"),), settings={"consent": "gpc"})
def consent_not_refused(visit: Visit) -> None:
    both(visit)


@case(settings={"exclude_paths": ("/health", "/cases/excluded*")})
def excluded_path(visit: Visit) -> None:
    both(visit)


@case(settings={"should_capture": lambda request: False})
def excluded_by_the_sites_own_function(visit: Visit) -> None:
    both(visit)


@case(settings={"redact": ("email",)})
def redacted_properties(visit: Visit) -> None:
    visit.analytics.capture("page_seen", {"contact": {"Email": "ada@example.org"}})


def both(visit: Visit) -> None:
    """One event and one goal."""
    visit.analytics.capture("page_seen")
    visit.analytics.goals.increment("signups")


def missing(analytics: Analytics) -> None:
    """Captures of each app's handler for unknown paths."""
    analytics.capture("page_missing")

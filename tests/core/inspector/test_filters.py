from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.inspector.filters import Filter, FilterError
from sessionsight.inspector.store import Store
from tests.core.inspector.values import NOW, received, record


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, Filter()),
        ({"vendor": "", "text": "", "page": "2", "limit": "5"}, Filter()),
        (
            {"vendor": "signal", "kind": "goal", "status": "refused"},
            Filter(vendor="signal", kind="goal", status="refused"),
        ),
        ({"session": "1", "visitor": "2", "user": "3"}, Filter(session="1", visitor="2", user="3")),
        ({"event": "a b", "text": "é", "after": "7"}, Filter(event="a b", text="é", after=7)),
        ({"since": "1.5", "until": "2026-05-01T10:00:00Z"}, Filter(since=1.5, until=NOW)),
        ({"since": "2026-05-01T10:00:00"}, Filter(since=NOW)),
    ],
)
def test_queries_become_filters(query: dict[str, str], wanted: Filter) -> None:
    assert Filter.from_query(query) == wanted
    assert Filter.from_query(wanted.to_query()) == wanted


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"vendor": "x"}, "vendor: must be sessionsight, signal, saytics or analyse, not 'x'"),
        ({"kind": "x"}, "kind: "),
        ({"status": "ok"}, "status: "),
        ({"vendor": "null"}, "vendor: must be "),
        ({"after": "null"}, "after: must not be 'null'"),
        ({"after": "-1"}, "after: "),
        ({"after": str(2**63)}, "after: "),
        ({"after": "x"}, "after: "),
        ({"since": "x"}, "since: must be Unix seconds or an ISO 8601 time, not 'x'"),
        ({"until": "nan"}, "until: "),
        ({"until": "inf"}, "until: "),
    ],
)
def test_a_wrong_value_is_named(query: dict[str, str], message: str) -> None:
    with pytest.raises(FilterError, match=f"^{message}"):
        Filter.from_query(query)


names = st.sampled_from(["a", "b", "É", "%", "_", "A\x00"])
records = st.builds(
    record,
    vendor=st.sampled_from(["signal", "saytics"]),
    kind=st.sampled_from(["event", "goal"]),
    name=names,
    accepted=st.booleans(),
    received_at=st.sampled_from([NOW, NOW + 1, NOW + 2]),
    session_id=st.none() | names,
    visitor_id=st.none() | names,
    user_id=st.none() | names,
    raw=st.dictionaries(names, names, max_size=2),
)
filters: Any = st.builds(
    Filter,
    vendor=st.none() | st.sampled_from(["signal", "saytics"]),
    kind=st.none() | st.sampled_from(["event", "goal"]),
    status=st.none() | st.sampled_from(["accepted", "refused"]),
    session=st.none() | names,
    visitor=st.none() | names,
    user=st.none() | names,
    event=st.none() | names,
    text=st.none() | names,
    since=st.none() | st.just(NOW + 1),
    until=st.none() | st.just(NOW + 1),
    after=st.none() | st.integers(0, 5),
)


@given(st.lists(records, max_size=6), filters)
def test_the_store_finds_what_matches(items: list[Any], wanted: Filter) -> None:
    with Store() as store:
        added = store.add(received(), items)
        matching = [record for record in reversed(added) if wanted.matches(record)]
        assert store.records(wanted).records == matching
        assert store.count(wanted) == len(matching)

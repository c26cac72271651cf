"""Every fact of the vendors' wires, held against our destinations."""

import msgspec
import pytest

from sessionsight.capture.encoding import decode, encode
from tests.conformance.facts.fact import Fact, destination
from tests.conformance.wire_facts import FACTS
from tests.core.destinations.factories import NOW

in_order = msgspec.json.Encoder(order="deterministic", decimal_format="number").encode


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.id)
def test_the_wire_is_as_the_vendor_documents_it(fact: Fact) -> None:
    vendor = destination(fact.destination, fact.options)
    refusals = [vendor.drop_reason(entry.record, entry.context) for entry in fact.entries]
    if fact.refused is not None:
        assert refusals[0] is fact.refused
        return
    assert all(vendor.supports(type(entry.record)) for entry in fact.entries)
    assert refusals == [None] * len(refusals)

    calls = list(vendor.build_requests(fact.entries, now=NOW))

    assert [(call.method, call.url) for call in calls] == [(request.method, request.url) for request in fact.requests]
    assert [call.headers for call in calls] == [request.headers for request in fact.requests]
    for call, request in zip(calls, fact.requests, strict=True):
        assert decode(call.body) == decode(encode(request.json))
        # Once more as text, where 49.00 is not 49.0, and 1 is not true.
        assert in_order(decode(call.body)) == in_order(decode(encode(request.json)))


def test_each_fact_has_a_name_of_its_own() -> None:
    names = [fact.id for fact in FACTS]
    assert sorted(set(names)) == sorted(names)


def test_each_fact_says_what_happens() -> None:
    assert all(bool(fact.requests) != (fact.refused is not None) for fact in FACTS)

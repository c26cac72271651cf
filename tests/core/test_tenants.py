"""Several lanes of one vendor, and the selection of destinations."""

import threading
from typing import Any

import pytest

from sessionsight import Analytics, Client, ConfigurationError, InvalidEventError, Settings
from sessionsight.capture.scope import RequestScope
from sessionsight.destinations import Analyse, Signal, from_options
from tests.core.box import Recorder, Visit
from tests.core.conftest import MakeRecorder
from tests.support.server import Server, reply, until

TENANTS = {
    "signal_eu": {"vendor": "signal", "api_key": "key_eu"},
    "signal_us": {"vendor": "signal", "api_key": "key_us"},
}


def host(request: Any) -> str | None:
    return request["host"] if isinstance(request, dict) else None


def visit(recorder: Recorder, request: object) -> Analytics:
    return Analytics(RequestScope(recorder.client, Visit(request)))


def labels(recorder: Recorder) -> dict[str, list[str]]:
    return {
        name: [entry.record.label for entry in recorder.entries(name)] for name in sorted(recorder.client._configured)
    }


# --- lanes ----------------------------------------------------------------------------------------


def test_a_vendor_may_be_configured_twice_under_different_names() -> None:
    made = Settings.from_mapping({"DESTINATIONS": TENANTS}).destinations
    assert made == (Signal(name="signal_eu", api_key="key_eu"), Signal(name="signal_us", api_key="key_us"))
    assert repr(made[0]).startswith("Signal(name='signal_eu', api_key=***")
    assert Signal(api_key="k").name == "signal"


def test_each_lane_has_its_own_key_and_ledger(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as eu, Server() as us:
        us.will(reply(400, body=b'{"error": "no such project"}'))
        destinations = {
            "signal_eu": {**TENANTS["signal_eu"], "endpoint": eu.url},
            "signal_us": {**TENANTS["signal_us"], "endpoint": us.url},
        }
        client = Client(Settings.from_mapping({"destinations": destinations, "linger": 0}))
        assert repr(client) == "Client(signal_eu, signal_us)"
        client.analytics.capture("seen", user_id="user_1")
        client.flush(10)
        assert [request.headers["authorization"] for request in (*eu.requests, *us.requests)] == [
            "Bearer key_eu",
            "Bearer key_us",
        ]
        assert {name: lane.delivered for name, lane in client.stats().lanes.items()} == {"signal_eu": 1, "signal_us": 0}
    assert [letter.destination for letter in client.dead_letters()] == ["signal_us"]
    until(lambda: caplog.records, "the lane tells of its dead letter")
    assert [record.message.partition(":")[0] for record in caplog.records] == ["signal_us"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("signal_eu", {"vendor": "signl"}, "destination 'signal_eu': unknown vendor 'signl'; did you mean 'signal'?"),
        ("signal_eu", {"vendor": None}, "destination 'signal_eu': unknown vendor None; known are analyse, console"),
        ("signal_eu", {"api_key": "k"}, "(a custom name needs a 'vendor' in its options)"),
        ("signal_eu", {"vendor": "signal"}, "destination 'signal_eu': api_key is missing or blank"),
        ("signal_eu", {"vendor": "signal", "api_key": "k", "name": "x"}, "unknown option 'name'"),
        (" ", {"vendor": "signal", "api_key": "k"}, "Signal: name must be printable text of 1 to 100 characters"),
        ("\ud800", {"vendor": "signal", "api_key": "k"}, "Signal: name must be printable text of 1 to 100 characters"),
        ("x" * 101, {"vendor": "signal", "api_key": "k"}, "Signal: name must be printable text of 1 to 100 characters"),
    ],
)
def test_an_invalid_lane_is_an_error_that_names_it(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        from_options(name, options)
    assert message in str(raised.value)


def test_two_lanes_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="two are named 'analyse'"):
        Settings(destinations=(Analyse(public_key="a"), Analyse(public_key="b")))


def test_a_vendors_name_is_unknown_if_its_lanes_have_other_names() -> None:
    client = Client(Settings.from_mapping({"destinations": TENANTS, "strict": True}))
    with pytest.raises(InvalidEventError, match="unknown destination 'signal'; did you mean 'signal_"):
        client.analytics.capture("seen", destinations=["signal"])
    client.analytics.capture("seen", destinations=["saytics"])


# --- only -----------------------------------------------------------------------------------------


def test_only_selects_destinations_for_later_calls(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us", strict=True)
    analytics = visit(recorder, "")
    analytics.capture("before")
    assert analytics.only("eu") is analytics
    analytics.capture("after")
    analytics.goals.increment("goal")
    analytics.identify("user_1")
    analytics.capture("explicit", destinations="us")
    analytics._scope.end()
    assert {name: sorted(found) for name, found in labels(recorder).items()} == {
        "eu": ["after", "before", "goal", "identify"],
        "us": ["before", "explicit"],
    }


def test_only_applies_outside_a_request(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us", strict=True)
    recorder.client.analytics.only("us").capture("exported")
    recorder.client.bind(user_id="user_1").only("eu", "us").capture("paid")
    assert labels(recorder) == {"eu": ["paid"], "us": ["exported", "paid"]}


@pytest.mark.parametrize(("names", "message"), [(["e"], "unknown destination 'e'"), ([], "only.. needs the name")])
def test_an_unknown_destination_in_only_is_an_invalid_call(
    make_recorder: MakeRecorder, names: list[str], message: str
) -> None:
    recorder = make_recorder("eu", "us", strict=True)
    with pytest.raises(InvalidEventError, match=message):
        recorder.client.analytics.only(*names)


def test_an_invalid_selection_in_production_does_not_select_all(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us")
    recorder.client.analytics.only("eu", "uss").capture("paid")
    recorder.client.analytics.only("nowhere").capture("lost")
    recorder.client.analytics.only(7).capture("lost")  # type: ignore[arg-type]
    assert labels(recorder) == {"eu": ["paid"], "us": []}
    assert recorder.client.stats().rejected == 3


# --- choose_destinations --------------------------------------------------------------------------


def test_choose_destinations_is_called_for_each_request(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us", choose_destinations=host, strict=True)
    for request in ({"host": "eu"}, {"host": "us"}, ""):
        analytics = visit(recorder, request)
        analytics.capture(f"of {request}")
        analytics._scope.end()
    assert labels(recorder) == {"eu": ["of {'host': 'eu'}", "of "], "us": ["of {'host': 'us'}", "of "]}


def test_calls_and_only_override_choose_destinations(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us", choose_destinations=host, strict=True)
    analytics = visit(recorder, {"host": "eu"})
    analytics.capture("chosen")
    analytics.capture("explicit", destinations=["us"])
    analytics.only("us").capture("only")
    analytics._scope.end()
    assert labels(recorder) == {"eu": ["chosen"], "us": ["explicit", "only"]}


def test_the_selection_applies_after_the_request_has_ended(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder("eu", "us", choose_destinations=host, strict=True)
    analytics = visit(recorder, {"host": "eu"})
    analytics._scope.close()
    thread = threading.Thread(target=analytics.capture, args=("late",))
    thread.start()
    thread.join()
    recorder.client.for_request({"host": "us"}).capture("unserved")
    assert labels(recorder) == {"eu": ["late"], "us": ["unserved"]}


@pytest.mark.parametrize("answer", ["usa", ["eu", "usa"], 7, ValueError("no tenant")])
def test_a_failing_choose_destinations_drops_and_counts_the_records(
    make_recorder: MakeRecorder, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    def choose(request: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    recorder = make_recorder("eu", "us", choose_destinations=choose)
    analytics = visit(recorder, "")
    analytics.capture("lost")
    analytics.capture("explicit", destinations="us")
    analytics._scope.close()
    analytics.capture("late")
    assert labels(recorder) == {"eu": [], "us": ["explicit"]}
    assert recorder.dropped("eu") == recorder.dropped("us") == {"choose_destinations_error": 2}
    assert "choose_destinations failed, so the records are dropped" in caplog.text
    if "usa" in str(answer):
        assert "did you mean 'us'?" in caplog.text


def test_choose_destinations_is_not_called_for_dropped_requests(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(
        "eu", "us", choose_destinations=lambda request: 1 / 0, should_capture=lambda request: False
    )
    analytics = visit(recorder, {"host": "eu"})
    analytics.capture("excluded")
    analytics._scope.end()
    assert labels(recorder) == {"eu": [], "us": []}
    assert recorder.dropped("eu") == {"excluded": 1}

import json
from types import SimpleNamespace

import jinja2
import pytest

from sessionsight import Client, Page, SessionSightIds, Settings, SignalIds, TrackingContext
from sessionsight.request.page_config import browser_config, config_script, sessionsight_config

EVERYTHING = TrackingContext(
    sessionsight=SessionSightIds(session_id="s-1", visitor_id="v-1"),
    signal=SignalIds(session_id="s-2", window_id="w-2", distinct_id="d-2"),
    user_id="user_1",
    anonymous_id="a-1",
    page=Page(url="https://shop.example/", client_ip="192.0.2.1", user_agent="Browser"),
)


def content(script: str) -> object:
    start, _, rest = script.partition(">")
    assert start == '<script type="application/json" id="sessionsight-config"'
    text, end, after = rest.partition("</script>")
    assert (end, after) == ("</script>", "")
    return json.loads(text)


def test_the_config_contains_all_ids_and_nothing_else() -> None:
    assert browser_config(EVERYTHING) == {
        "sessionsight": {"sessionId": "s-1", "visitorId": "v-1"},
        "signal": {"sessionId": "s-2", "windowId": "w-2", "distinctId": "d-2"},
        "userId": "user_1",
        "anonymousId": "a-1",
    }


def test_missing_ids_are_left_out() -> None:
    assert browser_config(TrackingContext()) == {}
    assert browser_config(TrackingContext(signal=SignalIds(window_id="w-2"))) == {"signal": {"windowId": "w-2"}}


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "&amp;", '"\\', "\u2028ä\udc80"])
def test_no_id_can_end_the_element(text: str) -> None:
    script = config_script(TrackingContext(user_id=text))
    inside = script.removesuffix("</script>").partition(">")[2]
    assert not {*"<>&"} & {*inside}
    assert script.isascii()
    assert content(script) == {"userId": text}


def test_the_element_can_have_another_id() -> None:
    assert config_script(TrackingContext(), element_id="my_ids-2").startswith(
        '<script type="application/json" id="my_ids-2">'
    )
    with pytest.raises(ValueError, match="element_id"):
        config_script(TrackingContext(), element_id='x" onload="')


def test_jinja_does_not_escape_it() -> None:
    environment = jinja2.Environment(autoescape=True)
    environment.globals["sessionsight_config"] = sessionsight_config
    request = SimpleNamespace(analytics=SimpleNamespace(context=EVERYTHING))
    page = environment.from_string("{{ sessionsight_config(request) }}").render(request=request)
    assert content(page) == browser_config(EVERYTHING)


def test_a_request_without_analytics_has_an_empty_element() -> None:
    assert content(sessionsight_config(None)) == {}
    assert content(sessionsight_config(object())) == {}


def test_without_consent_the_config_is_empty() -> None:
    client = Client(Settings(consent=lambda data: False))
    request = SimpleNamespace(analytics=client.for_request("ss_sid=6f1d2c3b; ss_vid=5d0a61a5"))
    assert content(sessionsight_config(request)) == {}

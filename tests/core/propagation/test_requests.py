from __future__ import annotations

import pickle

import pytest
import requests

from sessionsight import SessionSightIds, TrackingContext
from sessionsight.propagation.requests import PropagatingAdapter
from tests.core.box import Recorder
from tests.support.server import PATIENCE, Server

VISITOR = TrackingContext(sessionsight=SessionSightIds(session_id="session-1"))


def test_a_pickled_session_keeps_the_hosts_and_options(recorder: Recorder) -> None:
    with requests.Session() as session:
        session.mount("http://", PropagatingAdapter("127.0.0.1", max_retries=2))
        pickled = pickle.dumps(session)
    with Server() as server, pickle.loads(pickled) as restored, recorder.client.scope(VISITOR):
        restored.get(server.url, timeout=PATIENCE)
    assert server.requests[0].headers["cookie"] == "ss_sid=session-1"
    assert restored.get_adapter("http://x").max_retries.total == 2


def test_a_cookie_header_of_bytes_is_merged(recorder: Recorder) -> None:
    with Server() as server, requests.Session() as session, recorder.client.scope(VISITOR):
        session.mount("http://", PropagatingAdapter("127.0.0.1"))
        session.get(server.url, headers={"Cookie": b"theme=dark"}, timeout=PATIENCE)
    assert server.requests[0].headers["cookie"] == "theme=dark; ss_sid=session-1"


def test_an_invalid_url_is_the_same_error_as_without_us(recorder: Recorder) -> None:
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    request.url = "http://127.0.0.1:99999/"  # as a redirect sets it
    with requests.Session() as session, recorder.client.scope(VISITOR):
        with pytest.raises(requests.exceptions.InvalidURL):
            session.send(request, timeout=PATIENCE)
        session.mount("http://", PropagatingAdapter("127.0.0.1"))
        with pytest.raises(requests.exceptions.InvalidURL):
            session.send(request, timeout=PATIENCE)

"""Which Django processes deliver: every running site, whatever it imports; no process that runs Django's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.receiver import Receiver

pytestmark = pytest.mark.processes

SETTINGS = """
SECRET_KEY = "k"
ALLOWED_HOSTS = ["*"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
INSTALLED_APPS = ["sessionsight_django"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
DEBUG = {debug}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
SESSIONSIGHT = {{"LINGER": 0, "DESTINATIONS": {destinations!r}}}
"""
URLS = """
from django.http import HttpResponse
from django.urls import path

def view(request, name):
    request.analytics.capture(name, user_id="user_1")
    return HttpResponse("ok")

urlpatterns = [path("<str:name>/", view)]
"""
SETUP = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
import sessionsight
from sessionsight_django import clients
from sessionsight.test_mode import test_mode

def job(name):
    sessionsight.current().capture(name, user_id="user_1")

def flush():
    assert clients.client().flush(10)
"""
SITE = """
from django.core.mail import send_mail
from django.core.wsgi import get_wsgi_application
from django.test import AsyncRequestFactory, Client, RequestFactory
import django.test.utils

def ask(application, name):
    body = application(RequestFactory().get(f"/{name}/").environ, lambda status, headers: None)
    list(body)
    body.close()

job("job")
application = get_wsgi_application()
assert not test_mode.active
ask(application, "before_mail")
send_mail("hello", "text", "a@example.com", ["b@example.com"])
AsyncRequestFactory().get("/")
ask(application, "after_mail")
ask(get_wsgi_application(), "second_handler")
job("job_after_mail")
assert not test_mode.active
django.test.utils.setup_test_environment()  # whoever calls it in a process that serves a site
ask(application, "served")
flush()
"""
SHELL = """
from django.test import Client
from django.test.utils import setup_test_environment, teardown_test_environment

job("before")
flush()
setup_test_environment()
job("in_job")
Client().get("/in_request/")
flush()
teardown_test_environment()
job("after")
Client().get("/request_after/")
flush()
"""
TESTS = """
from urllib.request import urlopen
from django.core.mail import send_mail
from django.test import LiveServerTestCase, SimpleTestCase
from runner import flush, job

job("at_import")

class Requests(SimpleTestCase):
    def test_request(self):
        self.client.get("/request/")
        flush()

class Jobs(SimpleTestCase):
    def test_job(self):
        job("job")
        send_mail("hello", "text", "a@example.com", ["b@example.com"])
        flush()

class Live(LiveServerTestCase):
    def test_live(self):
        with urlopen(f"{self.live_server_url}/live/", timeout=20):
            flush()
"""
RUNNER = """
from django.test.runner import DiscoverRunner

class OwnRunner(DiscoverRunner):
    pass

if __name__ == "__main__":
    import multiprocessing
    import sys
    multiprocessing.set_start_method(sys.argv[1])
    failed = OwnRunner(parallel=int(sys.argv[2]), verbosity=0).run_tests(["tests"])
    job("after_the_tests")
    flush()
    sys.exit(bool(failed))
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def run(folder: Path, receiver: Receiver, program: str, *arguments: str, debug: bool = False) -> list[str]:
    """Run a program of a Django project in a process of its own. Returns the names of the events that arrived."""
    destinations = {"analyse": receiver.destinations()["analyse"]}
    settings = SETTINGS.format(debug=debug, destinations=destinations)
    for name, code in {"settings": settings, "urls": URLS, "tests": TESTS, "runner": SETUP + program}.items():
        (folder / f"{name}.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "runner.py", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("SESSIONSIGHT_")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [event["event_name"] for call in receiver.take() for event in json.loads(call.body)["events"]]


@pytest.mark.parametrize("debug", [False, True])
def test_a_running_site_delivers_whatever_it_imports(debug: bool, tmp_path: Path, receiver: Receiver) -> None:
    assert run(tmp_path, receiver, SITE, debug=debug) == [
        *("job", "before_mail", "after_mail", "second_handler", "job_after_mail", "served")
    ]


def test_a_shell_delivers_nothing_inside_a_test_environment(tmp_path: Path, receiver: Receiver) -> None:
    assert run(tmp_path, receiver, SHELL) == ["before", "after", "request_after"]


@pytest.mark.parametrize(("start_method", "processes"), [("fork", "1"), ("fork", "2"), ("spawn", "2")])
def test_a_runner_of_djangos_tests_delivers_nothing_in_any_process_or_thread(
    start_method: str, processes: str, tmp_path: Path, receiver: Receiver
) -> None:
    assert run(tmp_path, receiver, RUNNER, start_method, processes) == ["after_the_tests"]

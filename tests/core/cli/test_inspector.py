"""`sessionsight inspector`, as a process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from sessionsight.cli import main
from tests.core.delivery.kit import event
from tests.core.delivery.spools import enter, sqlite_spool
from tests.core.inspector.calls import SECRET, goal
from tests.support.ports import free_port

pytestmark = [pytest.mark.processes, pytest.mark.measured_processes]


@contextmanager
def running(*options: str, environ: Mapping[str, str] = os.environ) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process, yield it with its URL, and end it by Ctrl-C."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "sessionsight", "inspector", "--port", str(port), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(retries=12)  # with increasing delays
        with httpx.Client(transport=transport, timeout=30) as http:
            http.get(f"{url}/api/counts").raise_for_status()
        yield process, url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(30)
        finally:
            process.kill()
    assert code == 0


def output(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with process.stdout as stdout:
        return stdout.read()


def test_it_prints_its_url_and_a_line_per_record() -> None:
    with running("--tail") as (process, url):
        httpx.post(f"{url}/v1/goals/increment", json=goal(), headers=SECRET, trust_env=False).raise_for_status()
    greeting, _, table = output(process).partition("\n\ntime ")
    assert greeting.startswith(f"Open {url} to see what arrives; Ctrl-C ends it.")
    assert f"  export SESSIONSIGHT_API_URL={url}" in greeting.splitlines()
    assert table.splitlines()[1].split()[1:] == ["sessionsight", "user-signups", "increment", "0b54ad6e", "1"]
    assert "\x1b" not in table


def test_as_json_it_prints_records_and_nothing_else() -> None:
    with running("--json", "--fail", "503") as (process, url):
        failed = httpx.post(f"{url}/v1/goals/increment", json=goal(), headers=SECRET, trust_env=False)
        assert failed.status_code == 503
    (line,) = output(process).splitlines()
    assert (json.loads(line)["name"], json.loads(line)["accepted"]) == ("user-signups", False)


def test_keys_may_be_given() -> None:
    with running("--key", "sessionsight=one-key", "--key", "sessionsight=two-keys") as (process, url):
        for key, status in (("one-key", 200), ("two-keys", 200), ("another", 401)):
            response = httpx.post(f"{url}/v1/goals/increment", json=goal(), headers={"x-api-key": key}, trust_env=False)
            assert response.status_code == status
    assert "one-key" not in output(process)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", "signal"], "--key: must be VENDOR=KEY"),
        (["--key", "nobody=x"], "--key: must be VENDOR=KEY"),
        (["--fail", "200"], "fail: must be written as 500:0.3"),
        (["--latency", "x"], "latency: must be written as"),
        (["--rate-limit", "x"], "rate_limit: must be written as 10/s"),
        (["--spool", "mysql://shop"], "spool must be one of"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--max-records", "0"], "0 is not in the range"),
    ],
)
def test_invalid_options_are_reported(options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["inspector", "--port", "0", *options])
    assert result.exit_code == 2
    assert message in result.output


def test_a_port_in_use_is_reported() -> None:
    with running() as (process, url):
        result = CliRunner().invoke(main, ["inspector", "--port", url.rpartition(":")[2]])
    assert result.exit_code == 1
    assert "cannot listen on" in result.output
    assert "export SIGNAL_ENDPOINT" in output(process)


def test_the_health_page_shows_a_spool(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path / "spool.db")
    enter(spool, [event("a")])
    spool.close()
    with running("--spool", str(tmp_path / "spool.db")) as (process, url):
        page = httpx.get(f"{url}/health", trust_env=False).text
    assert f"Open {url}" in output(process)
    assert '<th scope="row">vendor</th>' in page


def test_the_health_page_shows_the_spool_of_a_django_project(tmp_path: Path) -> None:
    (tmp_path / "shop_settings.py").write_text(
        "SECRET_KEY = 'x'\n"
        "INSTALLED_APPS = ['sessionsight_django', 'sessionsight_django.outbox']\n"
        "MIDDLEWARE = ['sessionsight_django.AnalyticsMiddleware']\n"
        f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': {str(tmp_path / 'db')!r}}}}}\n"
        "SESSIONSIGHT = {'SPOOL': 'django'}\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "shop_settings"}
    subprocess.run([sys.executable, "-m", "django", "migrate", "--verbosity", "0"], env=environ, check=True)
    for options in (["--django-settings", "shop_settings"], ["--spool", "django:default"]):
        with running(*options, environ=environ) as (process, url):
            page = httpx.get(f"{url}/health", trust_env=False).text
        assert f"Open {url}" in output(process)
        assert "It has no record yet." in page


def test_a_database_without_a_project_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    result = CliRunner().invoke(main, ["inspector", "--port", "0", "--spool", "django"])
    assert result.exit_code == 2
    assert "spool django is in the database of a Django project: give --django-settings" in result.output

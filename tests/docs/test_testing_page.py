"""docs/testing.md runs: each block is a file of tests, in a suite of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT, block, blocks
from tests.support.suites import run_suite

pytest_plugins = ["pytester"]

PAGE = "docs/testing.md"
SHOPS = {"flask": "docs/flask.md", "asgi": "docs/asgi.md", "inspector": "docs/flask.md"}
PASSED = {
    "flask": 3,
    "asgi": 2,
    "dropped": 3,
    "lenient": 2,
    "flask_context": 1,
    "scope": 2,
    "unittest": 1,
    "inspector": 1,
    "delivery": 2,
}
DJANGO = {"django": 1, "factory": 3}
SETTINGS = """
SECRET_KEY = "k"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["sessionsight_django"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
ROOT_URLCONF = "urls"
SESSIONSIGHT = {"DESTINATIONS": {"signal": {"api_key": "...", "project_id": "..."}}}
"""
URLS = """
from django.http import HttpResponse
from django.urls import path

def create_order(request):
    request.analytics.capture("order_processed", {"order_id": "ord_1"})
    request.analytics.goals.increment("monthly-revenue", amount=49)
    return HttpResponse("Thank you")

urlpatterns = [path("orders", create_order)]
"""


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert sorted(name for name, _ in blocks(PAGE)) == sorted([*PASSED, *DJANGO])


@pytest.mark.parametrize("name", PASSED)
def test_a_suite_of_the_page_passes(name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Should anything leave, it would get no further than this.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    if name in SHOPS:
        pytester.makepyfile(shop=block(SHOPS[name], "program"))
    pytester.makepyfile(test_page=block(PAGE, name))
    run = run_suite(pytester, "--strict-markers")
    run.assert_outcomes(passed=PASSED[name])


@pytest.mark.parametrize("name", DJANGO)
def test_tests_of_the_page_pass_under_djangos_runner(name: str, tmp_path: Path) -> None:
    for module, code in {"settings": SETTINGS, "urls": URLS, "tests": block(PAGE, name)}.items():
        (tmp_path / f"{module}.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "django", "test", "--settings=settings", "--pythonpath=."],
        cwd=tmp_path,
        env={"PATH": "", "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"Ran {DJANGO[name]} test" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_a_failure_reads_as_the_page_shows_it(pytester: pytest.Pytester) -> None:
    found = re.search(r"<!-- failure -->\n```text\n(.*?)```", (ROOT / PAGE).read_text("utf-8"), re.DOTALL)
    assert found is not None
    wrong = 'analytics.assert_captured("order_processed", order_id="ord_2", amount=49.9)'
    pytester.makepyfile(shop=block(SHOPS["flask"], "program"))
    pytester.makepyfile(
        "from shop import create_app\n"
        "def test_it(analytics):\n"
        '    create_app().test_client().post("/orders")\n'
        f"    {wrong}\n"
    )
    run = run_suite(pytester)
    run.stdout.fnmatch_lines([f"E *{line}".rstrip() for line in found[1].splitlines()], consecutive=True)

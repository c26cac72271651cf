"""Analytics in templates, and what a page tells its own scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.adapters.django_site import (
    ANALYTICS,
    CONDITIONAL,
    FETCH_FROM_CACHE,
    UPDATE_CACHE,
    browser,
    site,
)
from tests.adapters.recording import Recorder

# isort: split
from django.core.cache import cache
from django.http import HttpResponse
from django.shortcuts import render
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient
from django.views.decorators.cache import cache_control, cache_page

from sessionsight_django.browser import sessionsight_config

PAGE = "{% load sessionsight %}{% sessionsight_config %}"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "sessionsight_django.context_processors.analytics",
            ],
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {"page.html": PAGE, "context.html": "{{ analytics.context.sessionsight.visitor_id }}"},
                )
            ],
        },
    },
    {"BACKEND": "django.template.backends.jinja2.Jinja2", "OPTIONS": {"environment": f"{__name__}.environment"}},
]
VISITOR = {"sessionsight": {"visitorId": "visitor-1"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}


def environment(**options: Any) -> Any:
    import jinja2

    made = jinja2.Environment(**options)
    made.globals["sessionsight_config"] = sessionsight_config
    return made


def content(response: Any) -> Any:
    text = response.content.decode()
    assert text.startswith('<script type="application/json" id="sessionsight-config">')
    return json.loads(text.partition(">")[2].removesuffix("</script>"))


def page(request: Any) -> Any:
    return render(request, "page.html")


def rendered_late(request: Any) -> Any:
    return TemplateResponse(request, "page.html")


def jinja_page(request: Any) -> Any:
    return HttpResponse(engines["jinja2"].from_string("{{ sessionsight_config(request) }}").render({}, request))


async def async_page(request: Any) -> Any:
    return render(request, "page.html")


VIEWS = [page, rendered_late, jinja_page, async_page]


@pytest.mark.parametrize("view", VIEWS)
def test_the_tag_prints_what_the_server_knows(view: Any, recorder: Recorder) -> None:
    with site(recorder, view, TEMPLATES=TEMPLATES):
        response = browser().get(f"/{view.__name__}/")
    assert content(response) == VISITOR
    assert b"pk_live" not in response.content


@pytest.mark.parametrize("view", VIEWS)
async def test_the_tag_prints_it_on_asgi_as_well(view: Any, recorder: Recorder) -> None:
    with site(recorder, view, TEMPLATES=TEMPLATES):
        response = await browser(AsyncClient).get(f"/{view.__name__}/")
    assert content(response) == VISITOR
    assert response.headers["Vary"] == "Cookie"


def test_the_context_processor_gives_templates_the_analytics(recorder: Recorder) -> None:
    def context(request: Any) -> Any:
        return render(request, "context.html")

    with site(recorder, context, TEMPLATES=TEMPLATES):
        assert browser().get("/context/").content == b"visitor-1"
    with site(recorder, context, TEMPLATES=TEMPLATES, middleware=[]):
        assert browser().get("/context/").content == b""


def test_a_template_without_request_or_middleware_prints_an_empty_element(recorder: Recorder) -> None:
    def bare(request: Any) -> Any:
        return HttpResponse(engines["django"].from_string(PAGE).render({}))

    with site(recorder, bare, page, TEMPLATES=TEMPLATES):
        assert content(browser().get("/bare/")) == {}
    with site(recorder, page, TEMPLATES=TEMPLATES, middleware=[]):
        assert content(browser().get("/page/")) == {}


# --- One visitor's ids are for that visitor alone ----------------------------------------------------


def test_the_page_says_that_it_is_one_visitors_own(recorder: Recorder) -> None:
    @cache_control(public=True, max_age=60)
    def shared(request: Any) -> Any:
        return render(request, "page.html")

    with site(recorder, page, shared, TEMPLATES=TEMPLATES):
        response = browser().get("/page/")
        assert (response.headers["Vary"], response.headers["Cache-Control"]) == ("Cookie", "private")
        assert set(browser().get("/shared/").headers["Cache-Control"].split(", ")) == {"max-age=60", "private"}


@pytest.mark.parametrize(
    "middleware",
    [
        (ANALYTICS, UPDATE_CACHE, CONDITIONAL, FETCH_FROM_CACHE),
        (UPDATE_CACHE, ANALYTICS, CONDITIONAL, FETCH_FROM_CACHE),
        (UPDATE_CACHE, CONDITIONAL, FETCH_FROM_CACHE, ANALYTICS),
    ],
    ids=["around the cache", "within it", "innermost"],
)
@pytest.mark.parametrize("view", VIEWS)
def test_djangos_cache_gives_nobody_the_ids_of_others(middleware: Any, view: Any, recorder: Recorder) -> None:
    with site(recorder, view, TEMPLATES=TEMPLATES, CACHES=CACHES, middleware=middleware):
        cache.clear()
        seen = []
        for visitor in ("visitor-1", "visitor-2", None):
            client = browser()
            client.cookies.clear()
            if visitor:
                client.cookies["ss_vid"] = visitor
            seen.append(content(client.get(f"/{view.__name__}/")).get("sessionsight", {}).get("visitorId"))
    assert seen == ["visitor-1", "visitor-2", None]


@pytest.mark.parametrize("view", [page, rendered_late, jinja_page])
def test_nor_does_cache_page(view: Any, recorder: Recorder) -> None:
    def cached(request: Any) -> Any:
        return cache_page(60)(view)(request)

    with site(recorder, cached, TEMPLATES=TEMPLATES, CACHES=CACHES):
        cache.clear()
        for visitor in ("visitor-1", "visitor-2"):
            client = browser()
            client.cookies["ss_vid"] = visitor
            assert content(client.get("/cached/")) == {"sessionsight": {"visitorId": visitor}}

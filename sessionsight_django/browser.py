"""What a page tells its own scripts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from sessionsight.request import page_config

__all__ = ["PRIVATE", "keep_private", "sessionsight_config"]

PRIVATE = "_sessionsight_private"
"""Stands in a request's own attributes when the visitor's ids are in its response."""


def sessionsight_config(request: Any) -> page_config.SafeHtml:
    """The ids that the server knows of the visitor, as an element of JSON for scripts.

    The tag `{% sessionsight_config %}` prints it; for Django's Jinja2 templates it is a function. The response becomes
    one visitor's own: no cache of Django's keeps it, and headers forbid it to others.

    Example:
        >>> from jinja2 import Environment
        >>> def environment(**options):
        ...     made = Environment(**options)
        ...     made.globals["sessionsight_config"] = sessionsight_config
        ...     return made
    """
    if isinstance(request, HttpRequest):
        # Django's own switch, by which cache_page and the cache's middleware learn that a response is not for them.
        vars(request).update({PRIVATE: True, "_cache_update_cache": False})
    return page_config.sessionsight_config(request)


def keep_private(response: HttpResponseBase) -> None:
    """Say to caches that the response is for one visitor."""
    patch_vary_headers(response, ("Cookie",))
    patch_cache_control(response, private=True)

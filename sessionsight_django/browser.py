"""Gives the visitor's ids to the scripts of a page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from sessionsight import adapters

__all__ = ["PRIVATE", "keep_private", "sessionsight_config"]

PRIVATE = "_sessionsight_private"
"""The attribute of a request whose response contains the visitor's ids."""


def sessionsight_config(request: Any) -> adapters.SafeHtml:
    """Return the visitor's ids that the server knows, as a JSON element for scripts.

    The tag `{% sessionsight_config %}` prints it; Jinja2 templates call this function. The response becomes private to
    the visitor: Django's caches do not store it, and its headers forbid others to do so.

    Example:
        >>> from jinja2 import Environment
        >>> def environment(**options):
        ...     made = Environment(**options)
        ...     made.globals["sessionsight_config"] = sessionsight_config
        ...     return made
    """
    if isinstance(request, HttpRequest):
        # Django's own attribute, with which cache_page and the cache middlewares skip a response.
        vars(request).update({PRIVATE: True, "_cache_update_cache": False})
    return adapters.sessionsight_config(request)


def keep_private(response: HttpResponseBase) -> None:
    """Mark the response as private for caches."""
    patch_vary_headers(response, ("Cookie",))
    patch_cache_control(response, private=True)

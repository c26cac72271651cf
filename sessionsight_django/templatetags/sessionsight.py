"""`{% load sessionsight %}`."""

from __future__ import annotations

from django import template
from django.template import Context

from sessionsight.adapters import SafeHtml
from sessionsight_django import browser as django_browser

__all__ = ["register", "sessionsight_config"]

register = template.Library()


@register.simple_tag(takes_context=True)
def sessionsight_config(context: Context) -> SafeHtml:
    """Print the ids that the server knows of the visitor, as an element of JSON for scripts.

    Needs the request in the template's context, as Django's `context_processors.request` gives it. Without
    one the element is empty.

    Example:
        `{% load sessionsight %}{% sessionsight_config %}`
    """
    return django_browser.sessionsight_config(context.get("request"))

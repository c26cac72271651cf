"""The urls of the table's Django app where all views are async."""

from django.urls import path

from tests.conformance.apps.django_app import async_view, handler404

__all__ = ["handler404", "urlpatterns"]

urlpatterns = [
    path("cases/<str:name>", async_view),
    path("cases/<str:name>/<path:rest>", async_view),
]

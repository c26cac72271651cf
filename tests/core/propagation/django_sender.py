"""Enqueues tasks of the Django project, as its site does."""

from __future__ import annotations

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

import sessionsight  # noqa: E402
from sessionsight import TrackingContext  # noqa: E402
from tests.core.propagation.contexts import context_of  # noqa: E402
from tests.core.propagation.django_shop import fail, see, see_async, send  # noqa: E402

call_command("migrate", verbosity=0)
with sessionsight.scope(context_of("s-1")):
    with transaction.atomic():
        see.enqueue("seen")
        see_async.enqueue("seen")
        send.enqueue("seen")
        fail.enqueue("seen")
    with transaction.atomic():
        see.enqueue("rolled back")
        transaction.set_rollback(True)
with sessionsight.scope(TrackingContext(opted_out=True)):
    see.enqueue("refused")
see.enqueue("alone")

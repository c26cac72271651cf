"""`flask sessionsight`: the commands of `sessionsight` for an app, registered by `init_app`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask.cli import with_appcontext

from sessionsight.cli import AdapterGroup
from sessionsight_flask.config import late_message

if TYPE_CHECKING:
    from sessionsight import Client
    from sessionsight.cli.target import Target

__all__ = ["commands"]


def commands(client: Callable[[], Client], late: Callable[[], list[str]]) -> AdapterGroup:
    """Return the commands of an app.

    Args:
        client: Returns its client.
        late: Returns the settings that have changed since the client was made.
    """

    def target() -> Target:
        from sessionsight.cli.target import Target  # only commands need it
        from sessionsight.diagnosis import Finding

        names = late()
        changed = Finding(level="error", subject="app.config", message=late_message(names)) if names else None
        return Target(client(), findings=() if changed is None else (changed,))

    return AdapterGroup(
        target=target, callback=with_appcontext(lambda: None), help="Diagnose the analytics of this app."
    )

"""Visitor ids and tokens: SessionSight's bootstrap gives a browser an id, and a token for it.

The inspector's token contains the id, which identifies the visitor of a browser's goal, because a goal is sent with the
token and without a visitor id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid

__all__ = ["reuse_or_create", "token_for", "visitor_of"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def reuse_or_create(visitor_id: str | None) -> str:
    """Return the id that a browser sent if it is a UUID, otherwise a new one."""
    return visitor_id if visitor_id is not None and _UUID.fullmatch(visitor_id) else str(uuid.uuid4())


def token_for(visitor_id: str) -> str:
    """Return a token in the vendor's format: version, body, signature. The signature is never verified.

    Example:
        >>> visitor_of(token_for("7f8d1c1e-3f0b-4f4e-9c55-2c3f5a8c9f10"))
        '7f8d1c1e-3f0b-4f4e-9c55-2c3f5a8c9f10'
    """
    body = base64.urlsafe_b64encode(visitor_id.encode()).decode().rstrip("=")
    return f"v1.{body}.{hashlib.sha256(visitor_id.encode()).hexdigest()[:16]}"


def visitor_of(token: str) -> str | None:
    """Return the visitor id in a token; None if the inspector did not create it."""
    _, _, rest = token.partition(".")
    body = rest.partition(".")[0]
    try:
        visitor_id = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return visitor_id if _UUID.fullmatch(visitor_id) else None

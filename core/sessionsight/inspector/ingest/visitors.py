"""The visitors that we vouch for: SessionSight's bootstrap gives a browser an id, and a token that says so.

Our token contains the id. So a browser's goal, which bears the token and no visitor id, is known to be
that visitor's.
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
    """The id that a browser remembers, if it is a UUID, else a new one."""
    return visitor_id if visitor_id is not None and _UUID.fullmatch(visitor_id) else str(uuid.uuid4())


def token_for(visitor_id: str) -> str:
    """A token of the vendor's form: version, body, signature. Nobody checks ours.

    Example:
        >>> visitor_of(token_for("7f8d1c1e-3f0b-4f4e-9c55-2c3f5a8c9f10"))
        '7f8d1c1e-3f0b-4f4e-9c55-2c3f5a8c9f10'
    """
    body = base64.urlsafe_b64encode(visitor_id.encode()).decode().rstrip("=")
    return f"v1.{body}.{hashlib.sha256(visitor_id.encode()).hexdigest()[:16]}"


def visitor_of(token: str) -> str | None:
    """Whom a token is about; None when it is not of our making."""
    _, _, rest = token.partition(".")
    body = rest.partition(".")[0]
    try:
        visitor_id = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return visitor_id if _UUID.fullmatch(visitor_id) else None

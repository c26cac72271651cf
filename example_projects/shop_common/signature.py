"""Signatures of webhooks in Stripe's scheme, https://docs.stripe.com/webhooks/signature."""

import hashlib
import hmac
import os
import secrets
import time

# Known to the shop and to the provider. A real one shows it when the address of the webhook is entered.
SECRET = os.environ.get("WEBHOOK_SECRET") or secrets.token_hex()
TOLERANCE = 300  # seconds; an older webhook may have been recorded and sent again by somebody else


class SignatureError(ValueError):
    """The webhook is not from the provider, or it is too old."""


def sign(payload: bytes, secret: str, *, at: int) -> str:
    """The `Stripe-Signature` header of a payload that is sent at this Unix time."""
    return f"t={at},v1={_digest(payload, secret, str(at))}"


def verify(payload: bytes, header: str, secret: str, *, now: float | None = None) -> None:
    """Raise a `SignatureError` unless the payload, byte for byte, was signed with this secret just now."""
    fields = [field.partition("=") for field in header.split(",")]
    sent_at = next((value for name, _, value in fields if name == "t"), "")
    if not (sent_at.isascii() and sent_at.isdigit()):
        raise SignatureError("the signature has no time")
    # There are several while the provider replaces the secret. Other schemes than v1 are not for us.
    signatures = [value.encode() for name, _, value in fields if name == "v1"]
    expected = _digest(payload, secret, sent_at).encode()
    if not any(hmac.compare_digest(expected, given) for given in signatures):
        raise SignatureError("the payload was not signed with the secret of this webhook")
    if abs((time.time() if now is None else now) - int(sent_at)) > TOLERANCE:
        raise SignatureError("the webhook is too old")


def _digest(payload: bytes, secret: str, sent_at: str) -> str:
    return hmac.new(secret.encode(), sent_at.encode() + b"." + payload, hashlib.sha256).hexdigest()

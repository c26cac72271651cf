"""The environment variables that send an app's records to an inspector, in place of the vendors."""

from __future__ import annotations

__all__ = ["environment"]


def environment(url: str) -> dict[str, str]:
    """Addresses and keys for all four vendors; the keys are made up, since the inspector takes any.

    Example:
        >>> environment("http://127.0.0.1:7717")["SIGNAL_ENDPOINT"]
        'http://127.0.0.1:7717'
    """
    return {
        "SESSIONSIGHT_SECRET_API_KEY": "sessionsight_sec_local",
        "SESSIONSIGHT_PROPERTY_ID": "local",
        "SESSIONSIGHT_API_URL": url,
        "SIGNAL_API_KEY": "local",
        "SIGNAL_PROJECT_ID": "local",
        "SIGNAL_ENDPOINT": url,
        "SAYTICS_SECRET_KEY": "sk_live_local",
        "SAYTICS_API_URL": url,
        "ANALYSE_KEY": "pk_live_local",
        "ANALYSE_HOST": url,
    }

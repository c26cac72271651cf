"""Configuration of a page's scripts: the signed-in user, and where to send, under which public keys."""

import os

from shop_common.accounts import User

# By the names that browser.js gives them. Nothing secret may be among these: whatever stands on a page is public.
VARIABLES = {
    "sessionsight": {
        "url": "SESSIONSIGHT_API_URL",
        "key": "SESSIONSIGHT_PUBLIC_API_KEY",
        "property": "SESSIONSIGHT_PROPERTY_ID",
    },
    "signal": {"url": "SIGNAL_ENDPOINT", "key": "SIGNAL_API_KEY", "project": "SIGNAL_PROJECT_ID"},
    "saytics": {"url": "SAYTICS_API_URL", "key": "SAYTICS_WRITE_KEY"},
    "analyse": {"url": "ANALYSE_HOST", "key": "ANALYSE_KEY"},
}


def for_scripts(user: User | None) -> dict[str, object]:
    """The vendors whose variables are all set, the address among them: a stand-in is not to call the real one."""
    vendors = {
        vendor: {name: os.environ[variable] for name, variable in variables.items()}
        for vendor, variables in VARIABLES.items()
        if all(os.environ.get(variable) for variable in variables.values())
    }
    return {"vendors": vendors, "user": user.id if user else None}

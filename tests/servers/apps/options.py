"""Options from a test for the app that it starts: settings by name, as JSON in the environment.

Destinations and the spool come from the variables that users set, so they are not among them.
"""

import json
import os
from typing import Any

OPTIONS: dict[str, Any] = json.loads(os.environ.get("SITE_OPTIONS", "{}"))

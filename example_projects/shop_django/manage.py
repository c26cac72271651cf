#!/usr/bin/env python
"""The example shop, with Django.

    python example_projects/shop_django/manage.py runserver --noreload

Without --noreload, the accounts in memory are gone whenever a file changes.

Where the records go stands in environment variables, such as SIGNAL_API_KEY. `make demo SHOP=django` sets
them for you, to the inspector on this machine.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # shop_django and shop_common lie there
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_django.settings")
    execute_from_command_line(sys.argv)

"""Settings whose places the tests name in environment variables."""

import json
import os
from pathlib import Path

from django.utils import autoreload

FOLDER = Path(os.environ.get("SHOP_FOLDER", "."))

SECRET_KEY = "of the tests"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["alligator.contrib.django", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    alias: {
        "ENGINE": "mysite.checked_sqlite",
        "NAME": FOLDER / f"{alias}.sqlite3",
        "CONN_MAX_AGE": json.loads(os.environ.get("SHOP_MAX_AGE", "0")),
        "TEST": {"NAME": FOLDER / f"test-{alias}.sqlite3"},
    }
    for alias in ("default", "archive")
}
ALLIGATOR = json.loads(os.environ.get("SHOP_ALLIGATOR", '{"DSN": "locmem://shop"}'))

# The tests save files, and wait for what follows; a second would be long.
autoreload.StatReloader.SLEEP_TIME = 0.1

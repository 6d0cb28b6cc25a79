"""The Gator that producers and workers share: ``latergator.py --app myapp.gator:gator``."""

import os

from alligator import Gator

#: The environment has the DSN: it may hold a password, and differs between deployments.
gator = Gator(os.environ.get("MYAPP_QUEUE", "redis://localhost:6379/0"))

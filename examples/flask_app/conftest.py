"""Keep what the tests make out of the folder of the application."""

import os
import tempfile

os.environ["THUMBNAILS_FOLDER"] = tempfile.mkdtemp(prefix="thumbnails-")

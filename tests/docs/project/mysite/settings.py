"""The settings of the tutorial's site: a file for a database, and mail that goes nowhere."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["testserver"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"},
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
# A worker in another process writes its mail to files, so that a test can count it.
MAIL_FOLDER = os.environ.get("MAIL_FOLDER")
EMAIL_BACKEND = f"django.core.mail.backends.{'filebased' if MAIL_FOLDER else 'locmem'}.EmailBackend"
EMAIL_FILE_PATH = MAIL_FOLDER
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sosocial"]
ROOT_URLCONF = "sosocial.urls"
SERVER_EMAIL = "server@example.com"
ALLIGATOR_CONN = "redis://localhost:6379/0"  # run_page.py puts the test's server here

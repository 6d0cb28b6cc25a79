"""The settings, for development."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("SOCIAL_FOLDER") or Path(__file__).resolve().parent.parent / "data")
FOLDER.mkdir(parents=True, exist_ok=True)

# -- Alligator. ----------------------------------------------------------------------------------

ALLIGATOR = {
    "DSN": os.environ.get("SOCIAL_QUEUE") or f"sqlite://{FOLDER}/queue.db",
    "ON_COMMIT": True,  # tasks wait for the commit of the transaction in which they are pushed
}

# -- Mail: to the server that start.py runs. -----------------------------------------------------

EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("SOCIAL_SMTP_PORT", "8025"))
DEFAULT_FROM_EMAIL = "network@example.com"

# -- Django. ---------------------------------------------------------------------------------------

DEBUG = True
SECRET_KEY = "only for development"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "alligator.contrib.django",
    "social",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "site.db",
        # With SQLite, a transaction that writes has to wait for another one from its start.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
LOGIN_REDIRECT_URL = "feed"
LOGOUT_REDIRECT_URL = "login"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True

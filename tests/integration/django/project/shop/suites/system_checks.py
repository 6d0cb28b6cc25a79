"""Test what ``manage.py check`` says of the setting ALLIGATOR."""

import sys
from unittest import mock

from django.conf import settings
from django.core import checks as django_checks
from django.test import SimpleTestCase, override_settings

from alligator.contrib.django import checks, gators

REDIS = {"DSN": "redis://localhost:6379/0"}


def cache(location, backend="django.core.cache.backends.redis.RedisCache", **options):
    return {"default": {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}}


class SystemChecks(SimpleTestCase):
    def said(self, alligator, **others):
        with override_settings(ALLIGATOR=alligator, **others):
            return checks.check_settings()

    def check_one(self, name, text, hint, alligator, **others):
        (found,) = self.said(alligator, **others)
        self.assertEqual(found.id, f"alligator.{name}")
        self.assertIn(text, found.msg)
        if hint is None:
            self.assertIsNone(found.hint)
        else:
            self.assertIn(hint, found.hint)

    def test_they_are_registered(self):
        with override_settings(ALLIGATOR={"DNS": "x"}):
            found = [each.id for each in django_checks.run_checks(tags=["alligator"])]
        self.assertEqual(found, ["alligator.E001"])

    def test_nothing_is_wrong(self):
        for setting in (REDIS, {"DSN": f"sqlite://{settings.FOLDER}/q.db", "QUEUES": ["a"]}):
            self.assertEqual(self.said(setting), [])
        self.assertEqual(self.said({"DSN": "locmem://"}, DEBUG=True), [])

    def test_unknown_keys(self):
        self.check_one("E001", "Did you mean 'QUEUES'", None, REDIS | {"QEUES": []})
        self.check_one("E001", "unknown key 'XYZZY'", "Known keys: DSN", REDIS | {"XYZZY": []})
        with override_settings():
            del settings.ALLIGATOR
            gators.reset()
            (found,) = checks.check_settings()
        self.assertIn("The setting ALLIGATOR is missing", found.msg)

    def test_a_missing_driver(self):
        with mock.patch.dict(sys.modules):
            for name in [*sys.modules]:
                if name.startswith("alligator.backends.beanstalk"):
                    del sys.modules[name]
            sys.modules["greenstalk"] = None
            hint, setting = "sqlite:// needs no driver", {"DSN": "beanstalk://localhost/"}
            self.check_one("E002", "pip install 'alligator[beanstalk]'", hint, setting)

    def test_a_gator_that_cannot_be_made(self):
        self.check_one("E003", "known schemes", "backends", {"DSN": "rediss3://h"})
        self.check_one(
            "E003", "Unknown option 'retires'", None, REDIS | {"OPTIONS": {"retires": 3}}
        )
        self.check_one("E003", "'shop.Nothing'", None, REDIS | {"TASK_CLASS": "shop.Nothing"})

    def test_an_unknown_database(self):
        hint = "DATABASES has: default, archive."
        self.check_one("E004", "'archiv'", hint, REDIS | {"ON_COMMIT": "archiv"})
        self.check_one("E004", "'lost'", hint, REDIS | {"ON_COMMIT": True, "USING": "lost"})

    def test_locmem_in_production(self):
        with mock.patch.object(checks, "_is_test_run", return_value=False):
            self.check_one("W001", "no worker process sees", "redis://", {"DSN": "locmem://"})
        self.assertEqual(self.said({"DSN": "locmem://"}), [], "in tests it is what is wanted")

    def test_the_database_of_a_cache(self):
        for dsn, caches in (
            ("redis://localhost:6379/0", cache("redis://127.0.0.1:6379")),
            ("redis://:secret@cache.local/3", cache(["redis://cache.local/3"])),
            ("rediss://cache.local/3", cache("redis://a/0,redis://cache.local", db=3)),
            ("redis+unix:///run/redis.sock?db=2", cache("unix:///run/redis.sock?db=2")),
            ("redis://h/1", cache("redis://h:6379/1", "django_redis.cache.RedisCache")),
        ):
            self.check_one("W002", "cache 'default'", "noeviction", {"DSN": dsn}, CACHES=caches)

    def test_the_server_of_a_cache(self):
        alligator = {"DSN": f"sqlite://{settings.FOLDER}/q.db", "STORE": "redis://localhost/1"}
        self.check_one(
            "W003",
            "on localhost:6379, and so is cache 'default'",
            "maxmemory-policy",
            alligator,
            CACHES=cache("redis://localhost/0"),
        )

    def test_a_cache_elsewhere(self):
        for caches in (
            cache("redis://other:6379/0"),
            cache("redis://localhost:6380/0"),
            cache("", "django.core.cache.backends.locmem.LocMemCache"),
            cache("127.0.0.1:6379", "django.core.cache.backends.memcached.PyMemcacheCache"),
            cache("redis://[broken"),
        ):
            self.assertEqual(self.said(REDIS, CACHES=caches), [])

    def test_a_queue_that_no_worker_serves(self):
        queues = REDIS | {"QUEUES": ["urgent", "bulk"]}
        self.check_one("W004", "QUEUE is 'bluk'", "urgent, bulk", queues | {"QUEUE": "bluk"})
        options = {"queue_name": "mail"}
        self.check_one("W004", "OPTIONS['queue_name']", "'mail'", queues | {"OPTIONS": options})

    def test_the_file_of_a_database(self):
        path = settings.DATABASES["archive"]["NAME"]
        self.check_one("W005", "database 'archive'", "queue.db", {"DSN": f"sqlite://{path}"})

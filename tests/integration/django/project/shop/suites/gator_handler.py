"""Test the Gators of the settings: one per alias and process."""

import os
import threading

from django.conf import settings
from django.test import SimpleTestCase, override_settings

from alligator import Gator, Task
from alligator.contrib.django import gators
from alligator.contrib.django.settings import InvalidSettings
from shop import tasks


class Named(Task):
    pass


TWO = {
    "default": {"DSN": "locmem://one", "OPTIONS": {"retries": 3}},
    "mail": {
        "DSN": "locmem://two",
        "QUEUES": ["urgent", "bulk"],
        "TASK_CLASS": "shop.suites.gator_handler.Named",
        "ALLOWED": ["shop.tasks.*"],
        "SECRET_KEYS": ["0123456789abcdef"],
        "SHOW_ARGUMENTS": False,
        "OPTIONS": {"on_error": "shop.tasks.remember"},
    },
}


@override_settings(ALLIGATOR=TWO)
class Handler(SimpleTestCase):
    def test_what_the_settings_say(self):
        self.assertEqual(
            (gators.aliases(), "mail" in gators, "no" in gators), (list(TWO), True, False)
        )
        one, two = gators["default"], gators["mail"]
        self.assertEqual(
            (one.conn_string, one.queue_name, one.default_options),
            ("locmem://one", "all", {"retries": 3}),
        )
        self.assertEqual((two.queue_name, two.task_class), ("urgent", Named))
        self.assertIsNotNone(two.signer)
        self.assertIs(two.default_options["on_error"], tasks.remember)

    def test_threads_share_one(self):
        found, barrier = [], threading.Barrier(8)

        def look():
            barrier.wait()
            found.append(gators["mail"])

        threads = [threading.Thread(target=look) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(len({id(each) for each in found}), 1)

    def test_other_settings_make_another(self):
        before = gators["default"]
        with override_settings(ALLIGATOR={"DSN": "locmem://three"}):
            self.assertEqual(gators["default"].conn_string, "locmem://three")
            with self.assertRaisesRegex(InvalidSettings, "has no alias 'mail'"):
                gators["mail"]
        self.assertIsNot(gators["default"], before)
        self.assertEqual(gators["default"].conn_string, "locmem://one")

    def test_an_alias_that_is_not_there(self):
        with self.assertRaisesRegex(InvalidSettings, "Did you mean 'mail'"):
            gators["mial"]

    def test_without_the_setting(self):
        with override_settings():
            del settings.ALLIGATOR
            gators.reset()
            with self.assertRaisesRegex(InvalidSettings, "ALLIGATOR = {'DSN': 'redis://"):
                gators["default"]

    def test_a_dotted_path_that_leads_nowhere(self):
        with override_settings(ALLIGATOR={"DSN": "locmem://", "MIDDLEWARE": ["shop.Nothing"]}):
            with self.assertRaisesRegex(InvalidSettings, "MIDDLEWARE .*'shop.Nothing'"):
                gators["default"]

    def test_a_forked_child_uses_it_too(self):
        folder = settings.FOLDER
        with override_settings(ALLIGATOR={"DSN": f"sqlite://{folder}/fork.db"}):
            gator = gators["default"]
            gator.task(tasks.remember, "parent")
            with gators._lock:  # as another thread may hold it
                pid = os.fork()
                if pid == 0:
                    try:
                        gators["default"].task(tasks.remember, "child")
                    finally:
                        os._exit(0)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
            self.assertEqual(gators["default"].len(), 2)
            self.assertEqual(Gator(f"sqlite://{folder}/fork.db").run_all(), 2)

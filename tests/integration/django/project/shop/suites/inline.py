"""Test that tasks without a worker leave the connections of their caller alone."""

from django.db import OperationalError, ProgrammingError, connection
from django.test import TransactionTestCase, override_settings

from alligator.contrib.django import gators
from shop import tasks


@override_settings(ALLIGATOR={"DSN": "locmem://inline"})
class WithoutAWorker(TransactionTestCase):
    def run_each_way(self, func, *arguments):
        gator = gators["default"]
        gator.options(is_async=False).task(func, *arguments)
        gator.task(func, *arguments)
        gator.run_all()
        gator.task(func, *arguments)
        gator.pop()
        gator.get(gator.task(func, *arguments).task_id)

    def test_an_open_connection_stays_open_whatever_its_age(self):
        connection.ensure_connection()
        before, connection.close_at = connection.connection, 0.0
        self.run_each_way(tasks.order, "a")
        self.run_each_way(tasks.aorder, "b")
        self.assertIs(connection.connection, before)

    def test_a_broken_one_is_renewed(self):
        with self.assertRaises((OperationalError, ProgrammingError)):
            gators["default"].options(is_async=False).task(tasks.lose_connection)
        self.run_each_way(tasks.order, "a")
        self.assertEqual(tasks.Order.objects.count(), 4)

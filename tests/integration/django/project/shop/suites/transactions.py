"""Test pushes inside transactions, with real ones and inside a TestCase."""

import asyncio
import threading
import warnings
from unittest import mock

from django.core.management import call_command
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.urls import path

from alligator import CANCELED, SUCCESS, Task, result_of
from alligator.contrib.django import gators
from alligator.contrib.django.transactions import DjangoGator, PushInTransaction
from alligator.exceptions import ConnectionLost, InvalidTask, UnsupportedOption
from alligator.testing.clock import FakeClock
from shop import tasks

LOCMEM = {"DSN": "locmem://transactions"}


class Rollback(Exception):
    pass


class Base:
    databases = {"default", "archive"}

    def setUp(self):
        self.gator = gators["default"]
        self.gator.client.drop_all("all")
        tasks.NAMES.clear()

    def queued(self):
        """Return what is queued, by running it."""
        self.gator.run_all()
        found, tasks.NAMES[:] = list(tasks.NAMES), []
        return found


def push_in_view(request):
    """A view of the project, which Django runs inside a transaction with ATOMIC_REQUESTS."""
    gators["default"].task(tasks.remember, "pushed")
    with gators["default"].batch() as batch:
        batch.task(tasks.remember, "of a batch")
    tasks.NAMES.append(f"{gators['default'].len()} on the queue")
    if "fails" in request.GET:
        raise Rollback
    return HttpResponse("done")


urlpatterns = [path("push", push_in_view)]


@override_settings(ROOT_URLCONF=__name__)
class AtomicRequests(Base, TransactionTestCase):
    """A view is a transaction, as the setting ATOMIC_REQUESTS has it."""

    def setUp(self):
        super().setUp()
        changed = mock.patch.dict(connection.settings_dict, {"ATOMIC_REQUESTS": True})
        changed.start()
        self.addCleanup(changed.stop)
        self.client = Client(raise_request_exception=False)

    def queued(self):
        self.gator = gators["default"]  # that of the settings of the test
        return super().queued()

    @override_settings(ALLIGATOR=LOCMEM | {"ON_COMMIT": True})
    def test_a_view_that_raises_pushes_nothing(self):
        self.assertEqual(self.client.get("/push?fails=1").status_code, 500)
        self.assertEqual(self.queued(), ["0 on the queue"])
        self.assertEqual(self.client.get("/push").content, b"done")
        self.assertEqual(self.queued(), ["0 on the queue", "pushed", "of a batch"])

    @override_settings(ALLIGATOR=LOCMEM | {"WARN_IN_TRANSACTION": True})
    def test_without_on_commit_it_is_warned_of_and_pushed(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertEqual(self.client.get("/push?fails=1").status_code, 500)
        self.assertEqual([each.category for each in caught], [PushInTransaction] * 2)
        self.assertEqual([each.filename for each in caught], [__file__] * 2)
        self.assertEqual(self.queued(), ["2 on the queue", "pushed", "of a batch"])

    @override_settings(ALLIGATOR=LOCMEM | {"ON_COMMIT": True})
    def test_a_push_that_fails_after_the_commit_is_an_error_of_the_request(self):
        lost = mock.patch.object(gators["default"].client, "push", side_effect=ConnectionLost("x"))
        with lost:
            self.assertEqual(self.client.get("/push").status_code, 500)
        self.assertEqual(self.queued(), ["0 on the queue"])


@override_settings(ALLIGATOR=LOCMEM)
class RealTransactions(Base, TransactionTestCase):
    def test_a_task_is_pushed_after_the_commit(self):
        with transaction.atomic():
            task = self.gator.options(on_commit=True).task(tasks.remember, "a")
            self.assertTrue(task.task_id)
            self.assertFalse(task.is_pushed)
            self.assertEqual(self.gator.len(), 0)
        self.assertTrue(task.is_pushed)
        self.assertEqual(self.gator.get(task.task_id).result, "a")

    def test_outside_of_a_transaction_it_is_pushed_at_once_without_a_connection(self):
        connections["default"].close()
        self.gator.options(on_commit=True).task(tasks.remember, "a")
        self.assertEqual(self.gator.len(), 1)
        self.assertIsNone(connections["default"].connection)

    def test_nested_transactions_push_at_the_end_of_the_outermost(self):
        opts = self.gator.options(on_commit=True)
        with transaction.atomic():
            with transaction.atomic():
                opts.task(tasks.remember, "inner")
            opts.task(tasks.remember, "outer")
            self.assertEqual(self.gator.len(), 0)
        self.assertEqual(self.queued(), ["inner", "outer"])

    def test_a_savepoint_that_is_rolled_back_takes_its_tasks_with_it(self):
        opts = self.gator.options(on_commit=True)
        with transaction.atomic():
            opts.task(tasks.remember, "before")
            try:
                with transaction.atomic():
                    opts.task(tasks.remember, "gone")
                    with self.gator.batch(on_commit=True) as batch:
                        batch.task(tasks.remember, "gone, too")
                    raise Rollback
            except Rollback:
                pass
            opts.task(tasks.remember, "after")
        self.assertEqual(self.queued(), ["before", "after"])

    def test_a_rollback_pushes_nothing(self):
        with self.assertRaises(Rollback), transaction.atomic():
            task = self.gator.options(on_commit=True).task(tasks.remember, "gone")
            raise Rollback
        self.assertEqual(self.queued(), [])
        self.assertFalse(task.is_pushed)

    def test_each_database_has_its_own_commit(self):
        with transaction.atomic(using="archive"):
            self.gator.options(on_commit=True).task(tasks.remember, "default")
            self.gator.options(on_commit="archive").task(tasks.remember, "archive")
            self.assertEqual(self.queued(), ["default"])
        self.assertEqual(self.queued(), ["archive"])

    @override_settings(ALLIGATOR=LOCMEM | {"USING": "archive", "ON_COMMIT": True})
    def test_settings_name_the_database_and_the_default(self):
        gator = gators["default"]
        with transaction.atomic(using="archive"):
            gator.task(tasks.remember, "archive")
            gator.options(on_commit=False).task(tasks.remember, "now")
            gator.options(on_commit="default").task(tasks.remember, "default")
            self.assertEqual(self.queued(), ["now", "default"])
        self.assertEqual(self.queued(), ["archive"])

    def test_a_schedule_is_in_no_transaction(self):
        gator = DjangoGator("locmem://ticks", clock=FakeClock(), options={"on_commit": True})
        with transaction.atomic():
            gator.every(60, tasks.remember, "tick")
            gator.run_until(gator.clock.time() + 61)
            self.assertEqual(tasks.NAMES, ["tick"])

    def test_a_batch_is_pushed_as_a_whole(self):
        with transaction.atomic():
            with self.gator.batch(on_commit=True, on_success=(tasks.remember, "all")) as batch:
                batch.task(tasks.remember, "a")
                batch.options(retries=2).task(tasks.remember, "b")
                with self.assertRaisesRegex(InvalidTask, r"gator.batch\(on_commit=…\)"):
                    batch.options(on_commit=False).task(tasks.remember, "now")
            self.assertEqual(self.gator.len(), 0)
        self.assertEqual(self.queued(), ["a", "b", "all"])
        self.assertTrue(batch.success_task.is_pushed)

    def test_tasks_that_depend_on_each_other(self):
        opts = self.gator.options(on_commit=True)
        with transaction.atomic():
            parent = opts.task(tasks.remember, "parent")
            opts.task(tasks.remember, result_of(parent))
            self.gator.options(on_commit=True, depends_on=parent).task(tasks.remember, "child")
        self.assertEqual(self.queued(), ["parent", "parent", "child"])

    def test_a_child_is_not_pushed_before_its_parent(self):
        with transaction.atomic():
            parent = self.gator.options(on_commit=True).task(tasks.remember, "parent")
            with self.assertRaises(InvalidTask) as caught:
                self.gator.options(depends_on=parent).task(tasks.remember, "child")
        self.assertIn("on_commit", str(caught.exception))
        self.assertEqual(self.queued(), ["parent"])

    def test_a_child_of_a_parent_that_this_commit_does_not_push_is_refused_at_the_call(self):
        opts = self.gator.options(on_commit=True)
        with transaction.atomic(using="archive"), transaction.atomic():
            try:
                with transaction.atomic():
                    gone = opts.task(tasks.remember, "gone")
                    with self.gator.batch(on_commit=True) as batch:
                        also_gone = batch.task(tasks.remember, "gone, too")
                    raise Rollback
            except Rollback:
                pass
            elsewhere = self.gator.options(on_commit="archive").task(tasks.remember, "archive")
            for parent in (gone, also_gone, elsewhere, Task()):
                with self.assertRaisesRegex(InvalidTask, "before the commit of database 'default'"):
                    self.gator.options(on_commit=True, depends_on=parent).task(tasks.remember, "c")
            here = self.gator.task(tasks.remember, "here")
            done = self.gator.options(is_async=False).task(tasks.remember, "done")
            for parents in ([here, done], [opts.task(tasks.remember, "parent")]):
                self.gator.options(on_commit=True, depends_on=parents).task(tasks.remember, "child")
            opts.task(tasks.remember, "other")
        found = ["done", "here", "parent", "other", "archive", "child", "child"]
        self.assertEqual(sorted(self.queued()), sorted(found))

    def test_children_that_nothing_can_hold_are_refused_at_the_call(self):
        gator = DjangoGator("locmem://no-store")
        gator._producer.dependencies.store = None  # as that of a server that keeps no outcomes
        with transaction.atomic():
            parent = gator.options(on_commit=True, is_async=False).task(tasks.remember, "parent")
            with self.assertRaisesRegex(UnsupportedOption, "keeps no 'depends_on'"):
                gator.options(on_commit=True, depends_on=parent).task(tasks.remember, "child")
            first, second = Task(on_commit=True), Task(on_commit=True)
            first.depends_on, second.depends_on = [second], [first]
            for each in (first, second):
                self.gator.prepare(each, tasks.remember, ["a"], {})
            with self.assertRaisesRegex(InvalidTask, "wait for each other"):
                self.gator.push_batch([first, second])
        self.assertEqual(tasks.NAMES, ["parent"])

    def test_arguments_are_those_of_the_call(self):
        names = ["then"]
        with transaction.atomic():
            self.gator.options(on_commit=True).task(tasks.remember, names)
            names.append("later")
        self.assertEqual(self.queued(), [["then"]])

    def test_each_push_of_one_object_keeps_its_own_call(self):
        pushed = []

        class Middleware:
            def push(self, task, call_next):
                pushed.append((task.func_args, task.retries))
                return call_next()

        gator, task = DjangoGator("locmem://twice", middleware=[Middleware()]), Task(on_commit=True)
        with transaction.atomic():
            gator.push(task, tasks.remember, "first")
            task.retries = 2
            gator.push(task, tasks.remember, "second")
            with self.assertRaises(Rollback), transaction.atomic():
                gator.push(task, tasks.remember, "gone")
                raise Rollback
        self.assertEqual(pushed, [(("first",), 0), (("second",), 2)])
        self.assertEqual((gator.len(), gator.get(task.task_id).result), (1, "second"))
        self.assertEqual((task.func_args, task.is_pushed), (("second",), True))

    def test_a_mistake_is_raised_at_the_call(self):
        with transaction.atomic():
            opts = self.gator.options(on_commit=True)
            for arguments in ([object()], [], ["too", "many"]):
                with self.assertRaises(InvalidTask):
                    opts.task(tasks.remember, *arguments)
            with self.assertRaisesRegex(InvalidTask, "Did you mean 'archive'"):
                self.gator.options(on_commit="archiv")
            with self.assertRaisesRegex(InvalidTask, "Known: default, archive"):
                self.gator.push(Task(on_commit="nowhere"), tasks.remember, "a")
            with self.assertRaisesRegex(InvalidTask, "is not True, False"):
                self.gator.options(on_commit=3)
        self.assertEqual(self.queued(), [])

    def test_a_push_that_fails_after_the_commit_is_raised_there(self):
        lost = mock.patch.object(self.gator.client, "push", side_effect=ConnectionLost("gone"))
        with lost, self.assertRaises(ConnectionLost) as caught, transaction.atomic():
            task = self.gator.options(on_commit=True).task(tasks.remember, "a")
            transaction.on_commit(lambda: tasks.NAMES.append("another callback"))
        (note,) = caught.exception.__notes__
        self.assertIn(task.task_id, note)
        self.assertIn("Not pushed, though its transaction has been committed: remember", note)
        self.assertEqual(tasks.NAMES, [], "Django runs no later callback")

    def test_a_task_that_runs_here_runs_after_the_commit(self):
        with transaction.atomic():
            task = self.gator.options(on_commit=True, is_async=False).task(tasks.remember, "a")
            self.assertEqual(tasks.NAMES, [])
        self.assertEqual((tasks.NAMES, task.status, task.result), (["a"], SUCCESS, "a"))

    def test_a_delay_counts_from_the_call(self):
        with transaction.atomic():
            task = self.gator.options(on_commit=True, delay_by=60).task(tasks.remember, "a")
            due = task.delay_until
        self.assertEqual(task.delay_until, due)
        self.assertEqual(self.gator.stats()["delayed"], 1)

    def test_middleware_is_called_around_the_push_itself(self):
        with override_settings(ALLIGATOR=LOCMEM | {"MIDDLEWARE": ["shop.suites.middleware.Seen"]}):
            gator = gators["default"]
            with transaction.atomic():
                gator.options(on_commit=True).task(tasks.remember, "a")
                self.assertEqual(tasks.NAMES, [])
            self.assertEqual(tasks.NAMES, [("a", "all")])

    def test_another_thread_sees_no_transaction(self):
        opts = self.gator.options(on_commit=True)
        with transaction.atomic():
            thread = threading.Thread(target=opts.task, args=[tasks.remember, "a"])
            thread.start()
            thread.join()
            self.assertEqual(self.gator.len(), 1)

    def test_a_coroutine_sees_no_transaction(self):
        """As its connections are not those of the thread that its loop runs in."""

        async def push():
            self.assertFalse(connections["default"].in_atomic_block)
            await self.gator.options(on_commit=True).atask(tasks.remember, "a")
            async with self.gator.abatch(on_commit=True) as batch:
                batch.task(tasks.remember, "b")

        with transaction.atomic():
            asyncio.run(push())
            self.assertEqual(self.queued(), ["a", "b"])

    def test_transactions_by_hand_are_refused(self):
        transaction.set_autocommit(False)
        try:
            with self.assertRaisesRegex(InvalidTask, "autocommit is off"):
                self.gator.options(on_commit=True).task(tasks.remember, "a")
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    def test_a_task_can_be_canceled_once_it_is_pushed(self):
        with transaction.atomic():
            task = self.gator.options(on_commit=True).task(tasks.remember, "a")
            self.assertIsNone(self.gator.status(task))
        self.assertTrue(task.cancel())
        self.assertEqual(task.status, CANCELED)

    @override_settings(ALLIGATOR=LOCMEM | {"WARN_IN_TRANSACTION": True})
    def test_a_push_inside_a_transaction_is_warned_of_once(self):
        gator = gators["default"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default", PushInTransaction)
            with transaction.atomic(using="archive"):
                for _ in range(3):
                    gator.task(tasks.remember, "a")
                gator.options(on_commit=False).task(tasks.remember, "meant")
                gator.options(on_commit="archive").task(tasks.remember, "after")
            gator.task(tasks.remember, "outside")
        self.assertEqual(len(caught), 1)
        self.assertIn("transaction of database 'archive'", str(caught[0].message))
        self.assertEqual(caught[0].filename, __file__)

    def test_by_default_it_is_warned_of_while_debug_is_on(self):
        for debug, told in ((True, 1), (False, 0)):
            with (
                override_settings(ALLIGATOR=LOCMEM, DEBUG=debug),
                warnings.catch_warnings(record=True) as caught,
                transaction.atomic(),
            ):
                warnings.simplefilter("always", PushInTransaction)
                gators.reset()
                gators["default"].task(tasks.remember, "a")
            self.assertEqual(len(caught), told)

    def test_the_warning_of_calls_in_a_loop_names_the_setting(self):
        async def push():
            gators["default"].task(tasks.remember, "a")

        with self.assertWarnsMessage(RuntimeWarning, "'WARN_IN_LOOP': False in the setting"):
            asyncio.run(push())


@override_settings(ALLIGATOR=LOCMEM)
class InATestCase(Base, TestCase):
    def test_callbacks_are_captured(self):
        with self.captureOnCommitCallbacks() as callbacks:
            self.gator.options(on_commit=True).task(tasks.remember, "a")
        self.assertEqual((len(callbacks), self.gator.len()), (1, 0))
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                self.gator.options(on_commit=True).task(tasks.remember, "b")
                with self.gator.batch(on_commit=True) as batch:
                    batch.task(tasks.remember, "c")
        self.assertEqual(self.queued(), ["b", "c"])

    def test_a_worker_inside_of_a_test_uses_its_transaction(self):
        before = connection.connection
        self.gator.task(tasks.order, "a")
        call_command("latergator", burst=True, log_level="ERROR")
        self.assertIs(connection.connection, before)
        self.assertEqual(tasks.Order.objects.get().name, "a")

    def test_without_it_nothing_is_pushed(self):
        self.gator.options(on_commit=True).task(tasks.remember, "a")
        self.assertEqual(self.queued(), [])

    @override_settings(ALLIGATOR=LOCMEM | {"WARN_IN_TRANSACTION": True})
    def test_only_a_transaction_of_the_code_itself_is_warned_of(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", PushInTransaction)
            gators["default"].task(tasks.remember, "a")
            with transaction.atomic(), self.assertRaises(PushInTransaction):
                gators["default"].task(tasks.remember, "b")

    def test_a_task_that_runs_here_uses_the_transaction_of_the_test(self):
        before = connection.connection
        self.gator.options(is_async=False).task(tasks.order, "a")
        self.gator.task(tasks.order, "b")
        self.gator.run_all()
        self.assertIs(connection.connection, before)
        self.assertTrue(connection.in_atomic_block)
        self.assertEqual(tasks.Order.objects.count(), 2)

"""Test the dashboard in the admin."""

import html
import json
import re
import sys
from io import StringIO
from unittest import mock

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client, TestCase, override_settings
from django.test.client import AsyncClient
from django.urls import set_script_prefix

from alligator import Worker
from alligator.contrib.django import gators
from alligator.contrib.django.admin import source_names
from alligator.contrib.django.models import Dashboard

WEB_AT_START = {"alligator.web"} & set(sys.modules)  # which imports Jinja2

ADMIN = "/back%20office/%C3%A9"
AT = f"{ADMIN}/alligator/dashboard"
STAFF = "/staff/alligator/dashboard"
FORM = "application/x-www-form-urlencoded"


def links(page):
    return [html.unescape(each) for each in re.findall(r'(?:href|src|action)="([^"#]+)"', page)]


class Base(TestCase):
    def setUp(self):
        self.orders, self.mail = gators["default"], gators["Mail"]
        for gator in (self.orders, self.mail):
            gator.task("shop.tasks.remember", "a")
        self.addCleanup(self.empty)

    def empty(self):
        for gator in (self.orders, self.mail):
            gator.client.drop_all(gator.queue_name)
            gator.resume()

    def visitor(self, *names, is_staff=True, client=Client, **options):
        """Return the client of a user who has these permissions."""
        user = User.objects.create(username=f"user {User.objects.count()}", is_staff=is_staff)
        for name in names:
            user.user_permissions.add(Permission.objects.get(codename=name))
        found = client(**options)
        found.force_login(user)
        found.user = user
        return found

    def text(self, answer, status=200):
        self.assertEqual(answer.status_code, status, answer.content[:2000])
        return answer.content.decode()

    def fail_one(self, name="shop.tasks.fail"):
        task = self.orders.task(name)
        Worker(self.orders, burst=True, log_level="CRITICAL").run_forever()
        self.assertEqual([each.task_id for each in self.orders.dead()], [task.task_id])
        return task.task_id


class Access(Base):
    def test_who_is_not_signed_in_is_asked_to(self):
        for path in ("/", "/default/", "/static/style.css", "/default/do/drop?queue=orders"):
            for method in ("get", "post"):
                answer = getattr(Client(), method)(AT + path)
                self.assertEqual(answer.status_code, 302)
                self.assertIn(f"{ADMIN}/login/?next=", answer["Location"])
        self.assertEqual(self.orders.client.stats("orders").waiting, 1)

    def test_a_permission_does_not_make_staff(self):
        answer = self.visitor("change_dashboard", is_staff=False).get(f"{AT}/")
        self.assertEqual(answer.status_code, 302)

    def test_staff_without_permission_sees_no_entry_and_no_page(self):
        visitor = self.visitor()
        self.assertNotIn("alligator", self.text(visitor.get(f"{ADMIN}/")))
        for path in ("/", "/default/queue?name=orders", "/static/live.js", "/default/do/drop"):
            page = self.text(visitor.get(AT + path), 403)
            self.assertNotIn("orders", page)
        self.assertEqual(visitor.post(f"{AT}/default/do/drop").status_code, 403)

    def test_view_reads(self):
        visitor = self.visitor("view_dashboard")
        index = self.text(visitor.get(f"{ADMIN}/"))
        self.assertIn(f"{AT}/", links(index))
        self.assertIn("Alligator", index)
        page = self.text(visitor.get(f"{AT}/"))
        self.assertIn("Read-only", page)
        self.assertFalse([each for each in links(page) if "/do/" in each])
        for method in ("get", "post"):
            answer = getattr(visitor, method)(f"{AT}/default/do/drop?queue=orders")
            self.assertIn("You may only look here.", self.text(answer, 403))
        self.assertEqual(self.orders.client.stats("orders").waiting, 1)
        self.assertFalse(LogEntry.objects.exists())

    def test_change_acts_and_may_look(self):
        visitor = self.visitor("change_dashboard")
        page = self.text(visitor.get(f"{AT}/default/queue?name=orders"))
        self.assertTrue([each for each in links(page) if "/do/pause" in each])
        visitor.post(f"{AT}/default/do/pause", "queue=orders", FORM)
        self.assertIsNotNone(self.orders.paused("orders"))

    def test_a_superuser_acts(self):
        visitor = self.visitor()
        User.objects.filter(pk=visitor.user.pk).update(is_superuser=True)
        visitor.post(f"{AT}/default/do/pause", "queue=orders", FORM)
        self.assertIsNotNone(self.orders.paused("orders"))


class Forms(Base):
    def setUp(self):
        super().setUp()
        self.visitor_ = self.visitor("change_dashboard", enforce_csrf_checks=True)

    def asked(self, path="/default/do/pause?queue=orders"):
        """Return the fields of the form that asks."""
        page = self.text(self.visitor_.get(AT + path))
        return re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page)

    def post(self, fields, **headers):
        text = "&".join(f"{name}={value}" for name, value in fields)
        return self.visitor_.post(f"{AT}/default/do/pause", text, FORM, **headers)

    def test_the_form_has_the_token_of_django_once(self):
        fields = self.asked()
        self.assertEqual([name for name, _ in fields].count("csrfmiddlewaretoken"), 1)
        self.text(self.post(fields))
        self.assertIsNotNone(self.orders.paused("orders"))

    def test_without_the_token_django_refuses(self):
        fields = [each for each in self.asked() if each[0] != "csrfmiddlewaretoken"]
        for given in (fields, [*fields, ("csrfmiddlewaretoken", "x" * 64)]):
            self.assertIn("CSRF", self.text(self.post(given), 403))
        self.assertIsNone(self.orders.paused("orders"))

    def test_our_own_check_holds_beside_it(self):
        page = self.text(self.post(self.asked(), headers={"sec-fetch-site": "cross-site"}), 403)
        self.assertIn("That came from another site.", page)
        self.assertIsNone(self.orders.paused("orders"))

    def test_a_token_in_the_address_is_not_repeated_in_the_form(self):
        fields = self.asked("/default/do/pause?queue=orders&csrfmiddlewaretoken=stale")
        self.assertEqual([name for name, _ in fields].count("csrfmiddlewaretoken"), 1)
        self.assertNotIn(("csrfmiddlewaretoken", "stale"), fields)

    def test_a_form_of_another_kind_does_nothing(self):
        token = dict(self.asked())["csrfmiddlewaretoken"]
        answer = self.visitor_.post(
            f"{AT}/default/do/pause", {"queue": "orders", "csrfmiddlewaretoken": token}
        )
        self.assertEqual(answer.status_code, 400)
        self.assertIsNone(self.orders.paused("orders"))

    def test_pages_without_a_form_set_no_cookie(self):
        answer = self.visitor_.get(f"{AT}/default/", headers={"x-alligator-fragment": "1"})
        self.assertNotIn("csrftoken", answer.cookies)


class Pages(Base):
    def test_all_queues_of_all_aliases_are_shown(self):
        visitor = self.visitor("view_dashboard")
        page = self.text(visitor.get(f"{AT}/"))
        self.assertIn(f"{AT}/mail", links(page))
        self.assertIn(f"{AT}/default/queue?name=orders", links(page))
        page = self.text(visitor.get(f"{AT}/mail/"))
        self.assertIn(f"{AT}/mail/queue?name=mail", links(page))

    def test_each_page_is_there_and_stays_below_the_admin(self):
        visitor = self.visitor("view_dashboard")
        self.fail_one()
        for path in ("running", "recent", "dead", "activity", "schedules", "workers"):
            page = self.text(visitor.get(f"{AT}/default/{path}"))
            for each in links(page):
                self.assertTrue(each.startswith(f"{ADMIN}/"), each)
            self.assertIn(f"{AT}/default/{path}", links(page))
        for each in links(page):
            if "/static/" in each:
                self.text(visitor.get(each))
        self.assertEqual(visitor.get(f"{AT}/default/nowhere").status_code, 404)

    def test_the_header_links_back_to_the_admin(self):
        visitor = self.visitor("view_dashboard")
        page = self.text(visitor.get(f"{AT}/"))
        self.assertIn(f'<a class="home" href="{ADMIN}/">Django administration</a>', page)
        page = self.text(visitor.get(f"{STAFF}/"))
        self.assertIn('href="/staff/">The &lt;b&gt;staff&lt;/b&gt;</a>', page)

    def test_another_site_has_pages_of_its_own(self):
        visitor = self.visitor("change_dashboard")
        self.assertIn(f"{STAFF}/", links(self.text(visitor.get("/staff/"))))
        page = self.text(visitor.get(f"{STAFF}/default/queue?name=orders"))
        self.assertTrue(all(each.startswith("/staff/") for each in links(page)), links(page))
        answer = Client().get(f"{STAFF}/")
        self.assertIn("/staff/login/?next=", answer["Location"])

    def test_paths_of_a_language_and_of_a_script(self):
        visitor = self.visitor("view_dashboard")
        page = self.text(visitor.get(f"/de{AT}/default/workers"))
        self.assertTrue(all(each.startswith("/de/back") for each in links(page)), links(page))
        set_script_prefix("/app/")  # as a server does
        self.addCleanup(set_script_prefix, "/")
        page = self.text(visitor.get(f"{AT}/", SCRIPT_NAME="/app"))
        self.assertTrue(all(each.startswith("/app/back") for each in links(page)), links(page))

    def test_headers_of_the_dashboard_stay(self):
        visitor = self.visitor("view_dashboard")
        answer = visitor.get(f"{AT}/")
        self.assertIn("default-src 'none'", answer["Content-Security-Policy"])
        self.assertEqual(answer["X-Frame-Options"], "DENY")
        self.assertEqual(answer["Cache-Control"], "no-cache, private")
        self.assertIn("Cookie", answer["Vary"])
        answer = visitor.get(f"{AT}/static/live.js")
        self.assertEqual(answer["Cache-Control"], "max-age=300")
        answer = visitor.head(f"{AT}/")
        self.assertEqual((answer.status_code, answer.content), (200, b""))

    def test_gators_of_settings_that_a_test_overrides(self):
        visitor = self.visitor("view_dashboard")
        self.text(visitor.get(f"{AT}/"))
        with override_settings(ALLIGATOR={"DSN": "locmem://overridden", "QUEUE": "other"}):
            gators["default"].task("shop.tasks.remember", "a")
            page = self.text(visitor.get(f"{AT}/"))
            self.assertIn(f"{AT}/queue?name=other", links(page))
            self.assertNotIn("orders", page)
        self.assertIn("orders", self.text(visitor.get(f"{AT}/")))

    def test_by_asgi(self):
        visitor = self.visitor("change_dashboard", client=AsyncClient)

        async def ask():
            page = self.text(await visitor.get(f"{STAFF}/default/queue?name=orders"))
            answer = await visitor.post(f"{STAFF}/default/do/pause", "queue=orders", FORM)
            return page, self.text(answer)

        page, told = async_to_sync(ask)()
        self.assertIn(f"{STAFF}/default/do/pause", " ".join(links(page)))
        self.assertIn("is paused", told)
        self.assertIsNotNone(self.orders.paused("orders"))

    def test_names_in_paths(self):
        aliases = ["default", "Mail", "mail", "do", "static", "größe", "_", "x" * 90]
        self.assertEqual(
            list(source_names(aliases)),
            ["default", "mail", "mail-2", "do-2", "static-2", "gr--e", "alias", "x" * 50],
        )


class Log(Base):
    def act(self, name, fields, source="default"):
        visitor = self.visitor("change_dashboard")
        self.told = self.text(visitor.post(f"{AT}/{source}/do/{name}", fields, FORM))
        return visitor

    def entry(self):
        return LogEntry.objects.get()

    def test_who_did_what_to_which_tasks(self):
        task_id = self.fail_one()
        visitor = self.act("revive", f"task=orders/{task_id}")
        entry = self.entry()
        self.assertEqual((entry.user, entry.action_flag), (visitor.user, CHANGE))
        self.assertEqual(entry.object_repr, "Revive: orders of default")
        self.assertEqual(entry.get_change_message(), f"1 task was revived. Tasks: {task_id}")
        self.assertIn("Revive: orders", self.text(visitor.get(f"{ADMIN}/")))

    def test_what_is_gone(self):
        task_id = self.fail_one()
        self.act("purge", f"task=orders/{task_id}")
        entry = self.entry()
        self.assertEqual(entry.action_flag, DELETION)
        self.assertIn(task_id, entry.change_message)
        self.assertEqual(entry.content_type.model_class(), Dashboard)

    def test_a_whole_queue_of_another_alias(self):
        self.act("drop", "queue=mail", "mail")
        self.assertEqual(self.entry().object_repr, "Drop all tasks: mail of mail")
        self.assertIn("1 waiting", self.entry().change_message)

    def test_nothing_that_was_not_done(self):
        self.act("resume", "queue=orders")
        self.act("revive", "task=orders/nothing")
        self.assertFalse(LogEntry.objects.exists())

    def test_a_lost_connection_may_have_done_it(self):
        from alligator.exceptions import ConnectionLost

        visitor = self.visitor("change_dashboard")
        with mock.patch.object(self.orders.client, "drop_all", side_effect=ConnectionLost("gone")):
            answer = visitor.post(f"{AT}/default/do/drop", "queue=orders", FORM)
        self.assertEqual(answer.status_code, 503)
        self.assertEqual(self.entry().object_repr, "Drop all tasks: orders of default")
        self.assertIn("may be done in part: gone", self.entry().change_message)

    def test_a_log_that_fails_undoes_nothing(self):
        with (
            mock.patch.object(LogEntry.objects, "create", side_effect=RuntimeError("full")),
            self.assertLogs("alligator.web.dashboard", "ERROR") as logs,
        ):
            self.act("pause", "queue=orders")
        self.assertIn("is paused", self.told)
        self.assertIn("could not record it", logs.output[0])


class Model(TestCase):
    """It has no table, and nothing of Django asks for one."""

    def test_a_project_starts_without_the_dashboard(self):
        """The admin has looked for its modules by then."""
        self.assertEqual(WEB_AT_START, set())

    def test_its_permissions(self):
        found = Permission.objects.filter(content_type__app_label="alligator")
        self.assertEqual({each.codename for each in found}, {"view_dashboard", "change_dashboard"})

    def test_no_migration_is_needed(self):
        told = StringIO()
        call_command("makemigrations", check=True, dry_run=True, stdout=told)
        self.assertIn("No changes detected", told.getvalue())

    def test_checks_find_nothing(self):
        """Not even in a project that does not say which keys its models have by default."""
        call_command("check", fail_level="WARNING", stderr=StringIO())
        unsaid = mock.Mock(wraps=settings, is_overridden=lambda name: False)
        with mock.patch("django.db.models.base.settings", unsaid, create=True):
            self.assertEqual(Dashboard.check(databases=["default"]), [])

    def test_all_data_can_be_dumped(self):
        for is_all in (False, True):
            told = StringIO()
            call_command("dumpdata", use_base_manager=is_all, stdout=told)
            models = {each["model"] for each in json.loads(told.getvalue())}
            self.assertIn("auth.permission", models)
            self.assertNotIn("alligator.dashboard", models)
        self.assertEqual((list(Dashboard.objects.all()), Dashboard.objects.count()), ([], 0))

"""Test the network without a worker: ``run_all()`` does the work in between."""

from datetime import timedelta
from smtplib import SMTPRecipientsRefused
from unittest import mock

from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase, override_settings
from django.utils import timezone

from alligator import Gator
from alligator.contrib.django import gators
from alligator.testing import FakeClock
from social import schedules, tasks
from social.models import Follow, Mail, Post
from social.posts import publish


@override_settings(ALLIGATOR={"DSN": "locmem://tests", "ON_COMMIT": True})
class Network(TestCase):
    def setUp(self):
        self.gator = gators["default"]
        self.addCleanup(self.gator.client.drop_all, "all")
        self.ada, self.bob, self.eve = (
            User.objects.create(username=name, email=f"{name}@example.com")
            for name in ("ada", "bob", "eve")
        )
        for each in (self.bob, self.eve):
            Follow.objects.create(follower=each, followed=self.ada)

    def publish(self, text="hello"):
        with self.captureOnCommitCallbacks(execute=True):
            return publish(self.ada, text)

    def page(self, post):
        self.client.force_login(self.ada)
        return self.client.get(f"/posts/{post.pk}/").content.decode()


class Posts(Network):
    def test_each_follower_gets_one_mail(self):
        post = self.publish()
        self.assertIn("0 of 2 mailed", self.page(post))
        self.assertIn('http-equiv="refresh"', self.page(post))
        self.assertEqual(self.gator.run_all(), 2)
        self.assertEqual(
            [(each.to, each.subject, each.body) for each in mail.outbox],
            [([f"{name}@example.com"], "A new post by ada", "hello") for name in ("bob", "eve")],
        )
        self.assertIn("2 of 2 mailed", self.page(post))
        self.assertNotIn('http-equiv="refresh"', self.page(post))

    def test_before_the_commit_nothing_is_queued(self):
        with self.captureOnCommitCallbacks() as callbacks:
            publish(self.ada, "never committed")
        self.assertEqual((len(callbacks), self.gator.len()), (1, 0))

    def test_a_task_that_runs_again_sends_no_second_mail(self):
        self.publish()
        self.gator.run_all()
        tasks.send(Mail.objects.first().pk)
        self.assertEqual(len(mail.outbox), 2)

    def test_a_refused_address_is_told_and_not_tried_again(self):
        refused = SMTPRecipientsRefused({"bob@example.com": (550, b"No such user")})
        post = self.publish()
        with mock.patch("social.tasks.send_mail", side_effect=[refused, 1]):
            self.gator.run_all()
        self.assertEqual(len(list(self.gator.dead())), 1)
        page = self.page(post)
        self.assertIn("failed: AddressRefused: 550 No such user", page)
        self.assertNotIn('http-equiv="refresh"', page)

    def test_a_busy_server_is_asked_again(self):
        busy = SMTPRecipientsRefused({"bob@example.com": (450, b"Later")})
        self.publish()
        with mock.patch("social.tasks.send_mail", side_effect=[busy, 1]):
            self.gator.run_all()
        self.assertEqual((list(self.gator.dead()), self.gator.len()), ([], 1))

    def test_the_page_of_a_post_is_for_its_author(self):
        post = self.publish()
        self.client.force_login(self.bob)
        self.assertEqual(self.client.get(f"/posts/{post.pk}/").status_code, 404)
        self.assertContains(self.client.get("/"), "hello")

    def test_posting_and_following_in_the_browser(self):
        self.client.force_login(self.eve)
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/", {"text": "hi"}, follow=True)
        self.assertContains(answer, "0 of 0 mailed")
        self.client.force_login(self.ada)
        self.assertNotContains(self.client.get("/"), "hi<")
        self.assertContains(self.client.post("/follow/eve/", follow=True), "hi<")


class Schedules(Network):
    def test_digests_come_each_morning_and_tell_each_post_once(self):
        self.publish("one")
        self.publish("two")
        self.gator.run_all()
        Post.objects.update(created=timezone.now() - timedelta(days=1))
        mail.outbox.clear()
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual((tasks.write_digests(), tasks.write_digests()), (2, 0))
        self.gator.run_all()
        self.assertEqual([each.to for each in mail.outbox], [[self.bob.email], [self.eve.email]])
        self.assertEqual(mail.outbox[0].body, "ada: one\nada: two")

    def test_when_they_come(self):
        gator = Gator("locmem://schedules", clock=FakeClock())
        schedules.declare(gator)
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(gator.run_until("+1d"), 1 + 24 * 6)

    def test_mails_that_missed_the_queue_are_queued_later(self):
        with self.captureOnCommitCallbacks():
            publish(self.ada, "the queue cannot be reached")
        self.assertEqual(tasks.queue_missed(), 0)
        Mail.objects.update(created=timezone.now() - timedelta(minutes=20))
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(tasks.queue_missed(), 2)
        self.assertEqual(tasks.queue_missed(), 0)
        self.assertEqual(self.gator.run_all(), 2)

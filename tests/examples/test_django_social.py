"""Test examples/django_social as its README says: one command, over HTTP and SMTP."""

import html
import re
import urllib.request
from datetime import UTC, datetime
from email import message_from_bytes, policy
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import pytest

from alligator import Gator
from tests.support import ROOT
from tests.support.examples import running, start
from tests.support.helpers import eventually

pytest.importorskip("django")
pytest.importorskip("aiosmtpd")

FOLDER = ROOT / "examples" / "django_social"


class Site:
    """The running example, and one user in its pages."""

    def __init__(self, address, folder):
        self.address, self.folder = address, folder
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path):
        with self._opener.open(self.address + path, timeout=30) as answer:
            self.path = answer.url.removeprefix(self.address)
            return answer.read().decode()

    def post(self, path, **fields):
        """Fill in the form of a page, and return the page that it leads to."""
        hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', self.get(path))
        given = {name: html.unescape(value) for name, value in hidden}
        body = urlencode({**given, **fields}).encode()
        with self._opener.open(self.address + path, body, timeout=30) as answer:
            self.path = answer.url.removeprefix(self.address)
            return answer.read().decode()

    def mailbox(self):
        """Return recipient, subject and text of each mail that the server took."""
        files = sorted((self.folder / "mailbox").glob("*.eml"))
        mails = [message_from_bytes(each.read_bytes(), policy=policy.default) for each in files]
        return sorted((x["To"], x["Subject"], x.get_content().strip()) for x in mails)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Start all of it, sign in as ada, and stop it in order."""
    folder = tmp_path_factory.mktemp("social")
    announced = r"^Open (http://127\.0\.0\.1:\d+)/"
    with running(FOLDER, announced, SOCIAL_FOLDER=str(folder)) as example:
        site = Site(example.address, folder)

        def answers():
            try:
                return site.get("/accounts/login/")
            except OSError:
                return ""

        eventually(answers, "the site answers")
        assert "Sign out ada" in site.post("/accounts/login/", username="ada", password="ada")
        yield site
    assert example.code == 0, example.said
    assert "\nTraceback" not in example.said, example.said
    assert "shutting down" in example.said, "the worker ended in order"


@pytest.fixture
def gator(site):
    gator = Gator(f"sqlite://{site.folder}/queue.db")
    yield gator
    gator.close()


def test_a_post_mails_every_follower(site, gator):
    """One mail is refused, another one taken at its second try; the page and the admin tell."""
    site.post("/", text="hello <all>")
    page = site.path
    assert re.fullmatch(r"/posts/\d+/", page)

    def ended():
        text = site.get(page)
        return None if 'http-equiv="refresh"' in text else text

    shown = eventually(ended, "all mails are sent or dead letters")
    assert "hello &lt;all&gt;" in shown
    assert "3 of 4 mailed" in shown
    assert re.search(r"gone</th><td>failed: AddressRefused: 550 No such user here<", shown)
    assert site.mailbox() == [
        (f"{name}@example.com", "A new post by ada", "hello <all>")
        for name in ("bob", "busy", "eve")
    ]

    assert 'href="/admin/alligator/dashboard/"' in site.get("/admin/")
    dead = site.get("/admin/alligator/dashboard/dead")
    assert "No such user here" in dead
    assert 'class="home" href="/admin/"' in dead
    (letter,) = gator.dead()
    done = site.post(f"/admin/alligator/dashboard/do/revive?task=all/{letter.task_id}")
    assert "1 task was revived." in done
    assert "Revive: all" in site.get("/admin/")


def test_the_digest_is_scheduled_and_sent(site, gator):
    shown = site.get("/admin/alligator/dashboard/schedules").replace("<wbr>", "")
    for each in ("social.tasks.write_digests", "social.tasks.queue_missed", "0 6 * * *"):
        assert each in shown
    site.post("/", text="for the digest")
    today = datetime.now(UTC).date().isoformat()
    gator.task("social.tasks.write_digests", today)

    def digests():
        return [each for each in site.mailbox() if each[1] == f"Posts of {today}"]

    eventually(lambda: len(digests()) == 3, "three digests come")
    assert [each[0] for each in digests()] == [
        f"{name}@example.com" for name in ("bob", "busy", "eve")
    ]
    assert "ada: for the digest" in digests()[0][2]


def test_its_own_tests_pass(tmp_path):
    process = start(FOLDER, "manage.py", "test", SOCIAL_FOLDER=str(tmp_path))
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert re.search(r"Ran [1-9]\d* tests", said), said

"""Test the dashboard in the admin: inside of a project, and in a browser."""

import os
import re
import shutil
import subprocess
import sys
from urllib.request import urlopen

import pytest

from alligator import Gator
from tests.integration.django.test_project import PROJECT
from tests.support import ROOT
from tests.support import browser as chromium
from tests.support.django_releases import PINNED, missing, python_of
from tests.support.helpers import eventually
from tests.support.servers.process import free_port

SETTINGS = "mysite.settings_with_admin"


@pytest.fixture
def environment(tmp_path):
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SHOP_FOLDER": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "DJANGO_SUPERUSER_PASSWORD": "s3cret",
    }


def run(environment, *arguments, settings=SETTINGS, python=sys.executable):
    done = subprocess.run(
        [str(python), *arguments],
        cwd=environment["SHOP_FOLDER"],
        env={**environment, "DJANGO_SETTINGS_MODULE": settings},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done


@pytest.mark.parametrize("version", ["", max(PINNED)], ids=["this", "newest"])
def test_the_suite(version, environment):
    if version and (why := missing(version)):
        pytest.skip(why)
    python = python_of(version) if version else sys.executable
    done = run(environment, "manage.py", "test", "shop.suites.admin", python=python)
    assert "Ran 0 tests" not in done.stderr


def test_without_the_admin_none_of_its_applications_is_needed(environment):
    code = (
        "import sys, django; django.setup(); from django.apps import apps;"
        "assert apps.get_model('alligator.dashboard');"
        "loaded = {'jinja2', 'alligator.web', 'django.contrib.contenttypes'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    run(environment, "-c", code, settings="mysite.settings")


#: One process: each start of Django takes a while.
SERVE = """
import sys, django
from django.core.management import call_command
django.setup()
call_command("migrate", verbosity=0)
call_command("createsuperuser", interactive=False, username="ada", email="ada@example.com")
call_command("runserver", sys.argv[1], use_reloader=False)
"""


@pytest.fixture
def site(environment):
    """The origin of the site, with a superuser."""
    address = f"127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, address],
        cwd=environment["SHOP_FOLDER"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers():
        assert server.poll() is None
        try:
            return urlopen(f"http://{address}/staff/login/", timeout=5).status == 200
        except OSError:
            return False

    try:
        eventually(answers, "the site answers")
        yield f"http://{address}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.browser
def test_in_a_browser(site, tmp_path):
    """Sign in, look, act, go back, and be asked to sign in again once the session is over."""
    gator = Gator(f"sqlite://{tmp_path}/mail.db", "mail")
    gator.task("shop.tasks.remember", "a")
    with chromium.start() as browser:
        page = browser.new_page()
        watched = chromium.Watched(page, site)
        watched.allows.append("404")
        page.goto(f"{site}/back office/é/")
        page.fill("#id_username", "ada")
        page.fill("#id_password", "s3cret")
        page.click("[type=submit]")
        page.click("#content-main .app-alligator th a")
        page.click(".sources >> text=mail")
        page.click("main >> text=mail >> nth=0")
        page.click("main >> text=Pause")
        page.click("button:has-text('Pause')")
        assert "Queue mail is paused" in page.inner_text("main")
        assert gator.paused("mail") is not None
        page.click(".home")
        assert "Pause: mail of mail" in page.inner_text("#recent-actions-module")
        page.go_back()
        page.click("header >> text=Workers")
        page.context.clear_cookies()
        page.wait_for_url(re.compile("/login/.next=.*workers"), timeout=30_000)
        assert watched.faults == []
        missing = {url.rpartition("/")[2] for url, status in watched.answers if status >= 400}
        assert missing <= {"favicon.ico"}  # which the login of the admin does not name
        page.close()
    gator.close()

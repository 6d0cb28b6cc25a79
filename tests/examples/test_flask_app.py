"""Test examples/flask_app as its README says: one command, and a browser without scripts."""

import io
import json
import re
import urllib.error
import urllib.request
import uuid

import pytest

from tests.support import ROOT, browser
from tests.support.examples import running, start
from tests.support.helpers import eventually

pytest.importorskip("flask")
Image = pytest.importorskip("PIL.Image")

FOLDER = ROOT / "examples" / "flask_app"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Start all of it; yield its address, and stop it in order."""
    folder = tmp_path_factory.mktemp("thumbnails")
    announced = r"^Open (http://127\.0\.0\.1:\d+)/"
    with running(FOLDER, announced, THUMBNAILS_FOLDER=str(folder)) as example:
        yield example.address
    assert example.code == 0, example.said
    assert "\nTraceback" not in example.said, example.said
    assert "shutting down" in example.said, "the worker ended in order"


def get(address):
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read()


def upload(site, data, name="a.png"):
    """Send a file as a browser does; return the page that it leads to."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n'
    body = f"{head}\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    request = urllib.request.Request(f"{site}/", body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.url


def ended(page):
    """Reload a page as its ``<noscript>`` does; return its text once it does not ask for that."""
    text = get(page).decode()
    return None if 'http-equiv="refresh"' in text else text


def test_a_picture_is_followed_without_scripts(site):
    file = io.BytesIO()
    Image.effect_noise((3000, 2000), 60).save(file, "JPEG")
    page = upload(site, file.getvalue())
    assert re.fullmatch(rf"{site}/pictures/[\w-]+", page)
    text = eventually(lambda: ended(page), "the worker made them")
    found = re.findall(r'src="(/thumbnails/[^"]+)"', text)
    assert len(found) == 3
    sizes = [Image.open(io.BytesIO(get(site + each))).size for each in found]
    assert sizes == [(1024, 683), (256, 171), (64, 43)]
    told = json.loads(get(f"{page}/progress"))
    assert told == {"state": "done", "fraction": 1.0, "text": ""}


def test_what_is_no_picture_is_told(site):
    page = upload(site, b"%PDF-1.7", "../../etc/passwd")
    assert "This is not a picture." in eventually(lambda: ended(page), "it becomes a dead letter")


def test_a_script_follows_the_progress(site, tmp_path):
    file = io.BytesIO()
    Image.effect_noise((4000, 3000), 60).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    with browser.start() as chromium:
        page = chromium.new_page()
        watched, asked = browser.Watched(page, site), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site}/")
        page.get_by_label("Picture").set_input_files(str(tmp_path / "a.jpg"))
        page.get_by_role("button", name="Make thumbnails").click()
        page.get_by_role("heading", name="Done").wait_for()
        assert page.get_by_role("img").count() == 3
        assert any(each.endswith("/progress") for each in asked)
        assert watched.faults == []


def test_the_dashboard_is_mounted(site):
    shown = get(f"{site}/queues/").decode()
    assert "/queues/workers" in shown
    with pytest.raises(urllib.error.HTTPError) as missing:
        get(f"{site}/pictures/{uuid.uuid4()}")
    assert missing.value.code == 404


def test_its_own_tests_pass():
    process = start(FOLDER, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert re.search(r"[1-9]\d* passed", said), said

"""Test the site without a worker: ``gator.run_all()`` does the work in between."""

import io

import pytest
from PIL import Image
from thumbnails import create_app, tasks


@pytest.fixture
def client(tmp_path, monkeypatch):
    for name in ("UPLOADS", "THUMBNAILS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(tasks, name, tmp_path / name)
    tasks.gator.client.drop_all("all")
    return create_app().test_client()


def picture(size=(600, 400)):
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG")
    file.seek(0)
    return file


def upload(client, file):
    answer = client.post("/", data={"picture": (file, "a.png")})
    assert answer.status_code == 303
    return answer.location


def test_a_picture_gets_thumbnails(client):
    page = upload(client, picture())
    assert client.get(f"{page}/progress").json["state"] == "waiting"
    assert b"http-equiv" in client.get(page).data
    tasks.gator.run_all()
    assert client.get(f"{page}/progress").json["state"] == "done"
    shown = client.get(page).text
    assert "http-equiv" not in shown
    key = page.rpartition("/")[2].replace("-", "")
    for size, expected in {1024: (600, 400), 256: (256, 171), 64: (64, 43)}.items():
        assert f"/thumbnails/{key}-{size}.jpg" in shown
        with Image.open(io.BytesIO(client.get(f"/thumbnails/{key}-{size}.jpg").data)) as image:
            assert image.size == expected


def test_what_is_no_picture_is_told(client):
    page = upload(client, io.BytesIO(b"not a picture"))
    assert tasks.gator.run_all() == 1, "no retry would help"
    assert client.get(f"{page}/progress").json["state"] == "failed"
    assert b"This is not a picture." in client.get(page).data


def test_what_is_not_there(client):
    assert client.post("/").status_code == 400
    missing = "/pictures/00000000-0000-0000-0000-000000000000"
    assert client.get(missing).status_code == 404
    assert client.get("/thumbnails/../queue.db").status_code == 404

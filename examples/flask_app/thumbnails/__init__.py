"""A web site that takes pictures, and shows thumbnails of them once a worker has made some."""

import os
import uuid
from http import HTTPStatus
from typing import Any

from flask import (
    Flask,
    abort,
    jsonify,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from alligator.constants import CANCELED, FAILED, RUNNING, SUCCESS
from alligator.exceptions import AlligatorException, TaskCanceled, TaskFailed
from alligator.web import Dashboard
from thumbnails import tasks
from thumbnails.tasks import gator


def create_app() -> Flask:
    """Return the application, with the dashboard at ``/queues/``."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 16 << 20
    app.add_url_rule("/", view_func=show_form)
    app.add_url_rule("/", view_func=take_upload, methods=["POST"])
    app.add_url_rule("/pictures/<uuid:key>", view_func=show_picture)
    app.add_url_rule("/pictures/<uuid:key>/progress", view_func=tell_progress)
    app.add_url_rule("/thumbnails/<path:name>", view_func=send_thumbnail)
    # Every visitor may look. With THUMBNAILS_ADMIN=name:password, only with that, but also act.
    admin = os.environ.get("THUMBNAILS_ADMIN")
    access = "all" if admin else "read_only"
    dashboard = Dashboard(gator, basic_auth=admin, resolve_access=lambda request: access)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/queues": dashboard.wsgi})
    return app


def show_form() -> str:
    """Show the form for an upload."""
    return render_template("upload.html")


def take_upload() -> Response | tuple[str, int]:
    """Keep the upload, leave the work to a worker, and lead to the page that follows it."""
    upload = request.files.get("picture")
    if upload is None or not upload.filename:
        return render_template("upload.html", problem="Choose a picture first."), 400
    key = uuid.uuid4()  # nothing of the visitor's becomes part of a path
    path = tasks.UPLOADS / key.hex
    upload.save(path)
    try:
        options = gator.options(task_id=key.hex, **tasks.OPTIONS)
        options.task(tasks.make_thumbnails, key.hex)
    except AlligatorException:
        path.unlink()
        return render_template("upload.html", problem="Please try again in a minute."), 503
    return redirect(url_for("show_picture", key=key), HTTPStatus.SEE_OTHER)


def state_of(key: uuid.UUID) -> dict[str, Any]:
    """Say how far a picture is: its ``state``, a ``fraction`` from 0 to 1, and a ``text``."""
    status = gator.status(key.hex)
    if status == SUCCESS:
        return {"state": "done", "fraction": 1.0, "text": ""}
    if status in (FAILED, CANCELED):
        return {"state": "failed", "fraction": 0.0, "text": reason_of(key)}
    if status is None:  # never pushed, or so long ago that its result is gone
        abort(404)
    fraction, text = gator.progress(key.hex) or (0.0, "")
    return {
        "state": "running" if status == RUNNING else "waiting",
        "fraction": fraction,
        "text": text,
    }


def reason_of(key: uuid.UUID) -> str:
    """Say to a visitor why there are no thumbnails; the details are on the dashboard."""
    try:
        gator.result(key.hex)
    except TaskCanceled:
        return "The work was canceled."
    except TaskFailed as err:
        if "UnidentifiedImageError" in err.error:
            return "This is not a picture."
    return "Something went wrong. Please try again."


def show_picture(key: uuid.UUID) -> str:
    """Show the thumbnails, or how far they are."""
    names = [(size, f"{key.hex}-{size}.jpg") for size in tasks.SIZES]
    return render_template("picture.html", key=key, names=names, **state_of(key))


def tell_progress(key: uuid.UUID) -> Response:
    """Tell a script how far a picture is."""
    return jsonify(state_of(key))


def send_thumbnail(name: str) -> Response:
    """Send the file of a thumbnail."""
    return send_from_directory(tasks.THUMBNAILS, name)

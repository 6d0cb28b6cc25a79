"""Test `latergator.py dashboard`: it serves, it ends in order, and says what it cannot do."""

import argparse
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from base64 import b64encode

import pytest

from alligator import Gator
from alligator.cli import commands as cli
from alligator.cli.parser import queue_parser
from alligator.cli.start_dashboard import AUTH_VARIABLE, names_of
from alligator.exceptions import InvalidTask
from alligator.web import server
from tests.support import ROOT
from tests.support.helpers import eventually

APP = """
from alligator import Gator
gator = Gator('locmem://app', 'nightly')
gator.every(3600, 'operator.add', 1, 2)
"""


@pytest.fixture
def dsn(tmp_path):
    gator = Gator(f"sqlite://{tmp_path}/first.db", "mail")
    gator.task("operator.add", 1, 2)
    gator.close()
    return gator.conn_string


@pytest.fixture
def serve(tmp_path):
    """A function that starts the command, and returns the process and its address."""
    started = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "alligator", "dashboard", "--port", "0", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()
        match = re.fullmatch(r"Dashboard: http://([^/]+)(/\S*) \(Ctrl-C ends it\)\n", line)
        assert match, line + process.stderr.read()
        return process, match[1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(address, path="/", method="GET", body=None, **headers):
    """Return the status and the text of an answer."""
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request(
        method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def refused(capsys, *arguments):
    """Return the one line that a command prints which cannot start."""
    assert cli.main(["dashboard", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


FORM = {"Content_Type": "application/x-www-form-urlencoded", "Sec_Fetch_Site": "same-origin"}


def test_it_records_how_full_the_queues_are(serve, dsn):
    """Without a look by a user or a worker."""
    serve(dsn)
    gator = Gator(dsn, "mail")
    eventually(lambda: [row.waiting for row in gator.depths(2)] == [1])
    gator.close()


def test_it_serves_and_ends_in_order(serve, dsn, tmp_path):
    """Several sources, one from an application; read-only; until SIGTERM, with exit code 0."""
    (tmp_path / "shop.py").write_text(APP)
    process, address = serve(dsn, f"images={dsn}", "--app", "shop:gator")
    status, page = ask(address)
    assert status == 200
    assert all(f'href="/{name}"' in page for name in ("sqlite-first", "images", "shop-gator"))
    assert "Read-only" in page
    assert "every 3600 s" in ask(address, "/shop-gator/schedules")[1]
    assert ask(address, "/static/style.css")[0] == 200
    assert ask(address, "/images/do/pause", "POST", "queue=mail", **FORM)[0] == 403
    idle = http.client.HTTPConnection(address, timeout=20)
    idle.request("GET", "/")
    idle.getresponse().read()  # and stays open
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    idle.close()


def test_with_actions_a_password_and_a_prefix(serve, dsn):
    """At all addresses, since there is a password; until Ctrl-C, with exit code 0."""
    process, address = serve(
        dsn,
        *("--allow-actions", "--host", "0.0.0.0", "--prefix", "queues/"),
        **{AUTH_VARIABLE: "ada:s3cret"},
    )
    assert ask(address, "/queues/")[0] == 401
    ada = {"Authorization": "Basic " + b64encode(b"ada:s3cret").decode()}
    status, page = ask(address, "/queues/", Host="queues.example.com", **ada)
    assert (status, 'href="/queues/workers"' in page) == (200, True)
    assert ask(address, "/")[0] == 302
    assert ask(address, "/other")[0] == 404
    status, page = ask(address, "/queues/do/pause", "POST", "queue=mail", **FORM, **ada)
    assert (status, "is paused" in page) == (200, True)
    status, page = ask(address, "/queues/do/pause", "POST", "x" * 1_500_000, **FORM, **ada)
    assert status == 413
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "s3cret" not in err


def test_a_foreign_host_name_is_refused(serve, dsn):
    """A page may let its own name point here; a name that is given by a flag is fine."""
    _, address = serve(dsn, "--allow-host", "queues.example.com")
    port = address.rpartition(":")[2]
    for host in (address, f"localhost:{port}", "[::1]:80", "Queues.Example.com"):
        assert ask(address, Host=host)[0] == 200, host
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", ""):
        status, text = ask(address, Host=host)
        assert (status, "has no host name" in text) == (403, True), host


def test_a_queue_without_a_store_and_a_server_that_is_down_start(serve):
    """The pages say what is missing, and a line on standard error who is not there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process, address = serve(f"beanstalk://127.0.0.1:{port}/")
    status, page = ask(address)
    assert (status, "cannot be reached" in page) == (503, True)
    status, page = ask(address, "/schedules")
    assert (status, "No schedule is declared here." in page) == (200, True)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert err.startswith("latergator.py: warning: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Give a DSN such as redis://localhost:6379/0, or --app."),
        (["gopher://x"], "gopher"),
        (["sqlite:////nowhere/q.db"], "There is no file /nowhere/q.db"),
        (["=locmem://x"], "has an empty name before it"),
        (["Mail=locmem://x", "locmem://y"], "'Mail' is no name for a part of the dashboard"),
        (["a=locmem://x", "a=locmem://y"], "Two are named 'a'"),
        (["--app", "nothing"], "is not module:name"),
        (["locmem://x", "--host", "0.0.0.0", "--allow-actions"], AUTH_VARIABLE),
        (["locmem://x", "--host", "203.0.113.77", "--port", "0"], "has no address 203.0.113.77"),
        (["locmem://x", "--every", "100000"], "is no number of seconds"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, says, capsys):
    """With exit code 2, before anything listens."""
    assert says in refused(capsys, *arguments)


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "x"], ["--every", "0"]])
def test_numbers_are_checked(arguments, capsys):
    """By the parser, as those of the other commands."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["dashboard", "locmem://x", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_port_in_use_is_one_line(capsys):
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = refused(capsys, "locmem://x", "--port", port)
    assert f"Something listens at 127.0.0.1 port {port} already; choose another" in found


@pytest.mark.parametrize("auth", ["", "ada", "ada:", ":s3cret"])
def test_a_bad_password_variable_is_one_line(auth, capsys, monkeypatch):
    """Which does not show it; an empty one is a mistake, and not "no password"."""
    monkeypatch.setenv(AUTH_VARIABLE, auth)
    found = refused(capsys, "locmem://x")
    assert f"{AUTH_VARIABLE} is no name:password" in found
    assert "s3cret" not in found


def test_the_password_cannot_be_a_flag():
    """Since other users see it there."""
    names = [name for each in queue_parser("dashboard")._actions for name in each.option_strings]
    assert not [name for name in names if "auth" in name or "pass" in name]


def test_a_warning_where_others_can_look(dsn, capsys, monkeypatch):
    """Without a password, at another address than this machine's own."""
    monkeypatch.setattr(server.Server, "run", lambda self, when_ready: None)
    assert cli.main(["dashboard", dsn, "--host", "0.0.0.0", "--port", "0"]) == 0
    assert "warning: all who reach 0.0.0.0 can see the queues" in capsys.readouterr().err
    monkeypatch.setenv(AUTH_VARIABLE, "ada:s3cret")
    assert cli.main(["dashboard", dsn, "--host", "0.0.0.0", "--port", "0"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("missing", "extra"), [("cheroot", "alligator[dashboard]"), ("jinja2", "alligator[web]")]
)
def test_a_missing_extra_is_one_line(missing, extra, tmp_path):
    """With what to install."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from alligator.cli.commands import main\n"
        "sys.exit(main(['dashboard', 'locmem://x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert f"pip install '{extra}'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([("", "redis://localhost:6379/0")], [""]),
        ([("mail", "redis://localhost:6379/0")], ["mail"]),
        (
            [("", "redis://u:pw@localhost:6379/0"), ("", "sqlite:////var/lib/app/queue.db")],
            ["redis-localhost-6379-0", "sqlite-queue"],
        ),
        ([("", "sqlite:///a/q.db"), ("", "sqlite:///b/q.db")], ["sqlite-q", "sqlite-q-2"]),
        ([("", "sqlite:///a/q.db"), ("sqlite-q", "locmem://")], ["sqlite-q-2", "sqlite-q"]),
        (
            [("", "sqs://eu-west-1/"), ("", "myapp.gator:gator")],
            ["sqs-eu-west-1", "myapp-gator-gator"],
        ),
    ],
)
def test_sources_have_readable_names(sources, names):
    """Unlike each other, and without a password."""
    assert names_of(sources) == names


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_what_only_this_machine_reaches(host):
    """By its address."""
    assert server.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.com"])
def test_what_others_reach(host):
    """Or may reach."""
    assert not server.is_loopback(host)


def test_the_parser_has_the_flags_that_the_command_reads():
    """With safe defaults."""
    found = queue_parser("dashboard").parse_args(["locmem://x"])
    assert isinstance(found, argparse.Namespace)
    assert (found.host, found.port, found.allow_actions) == ("127.0.0.1", 8023, False)
    with pytest.raises(InvalidTask, match="Two are named"):
        names_of([("a", "locmem://"), ("a", "locmem://")])

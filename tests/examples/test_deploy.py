"""Test the files of examples/deploy: by the programs that read them, or piece by piece."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib

import pytest
import yaml

from alligator import Gator
from alligator.cli import commands as cli
from alligator.constants import SUCCESS
from alligator.workers import heartbeat
from alligator.workers.supervisor import EXTRA_GRACE
from tests.support import ROOT
from tests.support.helpers import eventually

FOLDER = ROOT / "examples" / "deploy"
PROGRAM = str(ROOT / "bin" / "latergator.py")
#: Where the files have it.
INSTALLED = "/srv/myapp/venv/bin/latergator.py"

#: Seconds that reading from a redis may take before it counts as lost: to connect, and to answer.
LONGEST_LOOK = 5 + 10


def dockerfile():
    """Return the instructions of the Dockerfile: a list of arguments, or a text, by name."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    found = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line:
            name, _, rest = line.partition(" ")
            found[name] = json.loads(rest) if rest.startswith("[") else rest
    return found


def image_health():
    options, _, command = dockerfile()["HEALTHCHECK"].partition("CMD ")
    return dict(re.findall(r"--([\w-]+)=(\S+)", options)), json.loads(command)


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def pod():
    document = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    labels = document["spec"]["selector"]["matchLabels"]
    assert labels == document["spec"]["template"]["metadata"]["labels"]
    return document["spec"]["template"]["spec"]


def container():
    (found,) = pod()["containers"]
    return found


def probes():
    return {name: container()[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}


def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(FOLDER / "latergator.service")
    return parser


def program():
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",))
    parser.read(FOLDER / "supervisord.conf")
    return parser["program:latergator"]


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)([sm])", text).groups()
    return int(number) * (60 if unit == "m" else 1)


STOPS = {
    "compose": lambda: (dockerfile()["CMD"], seconds(compose()["worker"]["stop_grace_period"])),
    "kubernetes": lambda: (
        container()["command"] + container()["args"],
        pod()["terminationGracePeriodSeconds"],
    ),
    "systemd": lambda: (
        shlex.split(unit()["Service"]["ExecStart"]),
        int(unit()["Service"]["TimeoutStopSec"]),
    ),
    "supervisor": lambda: (shlex.split(program()["command"]), int(program()["stopwaitsecs"])),
}


@pytest.mark.parametrize("kind", STOPS)
def test_running_tasks_may_finish_before_the_kill(kind):
    (name, *flags), waits = STOPS[kind]()
    assert name.rpartition("/")[2] == "latergator.py"
    arguments = cli.worker_parser().parse_args(flags)
    assert "--grace" in flags, "it stands beside the time that has to fit"
    assert arguments.grace + EXTRA_GRACE <= waits


def start(command, **environment):
    """Start what a file names, as this checkout has it, in the folder of the example."""
    name, *arguments = command
    assert name.rpartition("/")[2] == "latergator.py"
    return subprocess.Popen(
        [sys.executable, PROGRAM, *arguments],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def codes_of(commands, **environment):
    """Run commands at the same time; return their exit codes, by command."""
    started = {tuple(each): start(each, **environment) for each in commands}
    for process in started.values():
        process.communicate(timeout=60)
    return {command: process.returncode for command, process in started.items()}


def test_the_probes_see_a_real_worker(tmp_path):
    where = {"MYAPP_QUEUE": f"sqlite://{tmp_path}/queue.db"}
    commands = {tuple(each["exec"]["command"]) for each in probes().values()}
    commands.add(tuple(image_health()[1]))
    assert len(commands) == 2
    worker = start(dockerfile()["CMD"], **where)
    try:
        # Until the worker has made the file, the code is 2.
        eventually(lambda: set(codes_of(commands, **where).values()) == {0}, "they see it")
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=30)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0, said
    last = set(codes_of(commands, **where).values())
    assert last == {1}, "its last heartbeat said that it ends"


def test_only_the_probe_that_restarts_bears_a_lost_server():
    where = {"MYAPP_QUEUE": "redis://127.0.0.1:1/0"}
    commands = {name: tuple(each["exec"]["command"]) for name, each in probes().items()}
    commands["image"] = tuple(image_health()[1])
    codes = codes_of(set(commands.values()), **where)
    found = {name: codes[each] for name, each in commands.items()}
    assert found == {"startup": 1, "readiness": 1, "liveness": 0, "image": 1}


def test_the_probes_wait_long_enough():
    for probe in probes().values():
        assert probe["timeoutSeconds"] > LONGEST_LOOK
    liveness = probes()["liveness"]
    # After an outage the store may have forgotten all workers until their next heartbeat.
    failing = (liveness["failureThreshold"] - 1) * liveness["periodSeconds"]
    assert failing > heartbeat.EVERY + LONGEST_LOOK
    options, _ = image_health()
    assert seconds(options["timeout"]) > LONGEST_LOOK


def test_the_image_has_what_its_commands_need():
    instructions = dockerfile()
    extras = set(re.search(r"alligator\[([\w,]+)\]", instructions["RUN"])[1].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras == {"redis", "dashboard"}
    assert extras <= set(known["optional-dependencies"])
    version = instructions["FROM"].partition(":")[2].removesuffix("-slim")
    assert f"Programming Language :: Python :: {version}" in known["classifiers"]
    source, target = instructions["COPY"].split()
    assert (FOLDER / source / "gator.py").exists()
    assert target == "./myapp"
    (user,) = re.findall(r"useradd --uid (\d+)", instructions["RUN"])
    assert user == instructions["USER"]
    assert container()["securityContext"]["runAsNonRoot"] is True


def test_the_environment_names_what_the_application_reads():
    name = "MYAPP_QUEUE"
    assert f'"{name}"' in (FOLDER / "myapp" / "gator.py").read_text()
    for service in ("worker", "dashboard"):
        assert compose()[service]["environment"][name] == "redis://redis:6379/0"
        assert compose()[service]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert [each["name"] for each in container()["env"]] == [name]


def test_the_dashboard_of_the_compose_file_is_understood():
    name, command, *arguments = compose()["dashboard"]["command"]
    assert (name, command) == ("latergator.py", "dashboard")
    parsed = cli.queue_parser(command).parse_args(arguments)
    assert parsed.app == ["myapp.gator:gator"]
    assert compose()["dashboard"]["ports"] == [f"127.0.0.1:{parsed.port}:{parsed.port}"]


@pytest.mark.redis
def test_the_redis_of_the_compose_file_has_nothing_to_change(tmp_path, capsys):
    from tests.support.servers import redis

    name, *options = compose()["redis"]["command"]
    assert name == "redis-server"
    server = redis.start(tmp_path, *options)
    try:
        assert cli.main(["doctor", server.dsn, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["must_change"] == 0
        asked = compose()["redis"]["healthcheck"]["test"]
        assert asked[0] == "CMD"
        told = subprocess.run([*asked[1:2], "-p", str(server.port), *asked[2:]], timeout=20)
        assert told.returncode == 0
    finally:
        server.stop()


def test_the_systemd_unit(tmp_path):
    text = (FOLDER / "latergator.service").read_text()
    assert INSTALLED in text
    assert unit()["Service"]["KillMode"] == "mixed"
    # systemd gives up after five starts in ten seconds.
    assert 4 * int(unit()["Service"]["RestartSec"]) > 10
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")

    def verify(text):
        # With a program that is there, and one that systemd takes for one.
        made = tmp_path / "latergator.service"
        made.write_text(text.replace(INSTALLED, PROGRAM))
        command = ["systemd-analyze", "verify", "--man=no", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    assert verify(text) == (0, "")
    assert "kill mode" in verify(text.replace("KillMode=mixed", "KillMode=sometimes"))[1]


@pytest.fixture
def supervisor(tmp_path):
    """Return a function that starts a real supervisord with the file, and one to control it."""
    pytest.importorskip("supervisor")
    config, dsn = tmp_path / "supervisord.conf", f"sqlite://{tmp_path}/queue.db"
    running = []

    def begin():
        text = (FOLDER / "supervisord.conf").read_text()
        assert INSTALLED in text
        for old, new in {
            INSTALLED: f"{sys.executable} {PROGRAM}",
            "/srv/myapp": str(FOLDER),
            "user=myapp\n": "",  # it is not on this machine
            "--processes 4": "--processes 2",
            "/var/log/supervisor": str(tmp_path),
            "startsecs=2": "startsecs=1",
        }.items():
            assert old in text
            text = text.replace(old, new)
        # Once more, for another queue, as others may have it.
        other = text.replace("latergator]", "grouped]").replace("latergator.log", "grouped.log")
        other = other.replace("--grace", "--queue other --grace")
        config.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={tmp_path}/supervisord.log\n"
            f"pidfile={tmp_path}/pid\n[unix_http_server]\nfile={tmp_path}/s\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
            "supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{tmp_path}/s\n{text}\n{other}\n"
            "stopasgroup=true\nkillasgroup=true\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYAPP_QUEUE": dsn}
        with (tmp_path / "out").open("ab") as out:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
                    env=environment,
                    stdout=out,
                    stderr=out,
                )
            )

    def control(*command):
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(config), *command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    gator = Gator(dsn)
    yield begin, control, gator
    gator.close()
    for process in running:
        process.terminate()
        process.wait(60)


def test_supervisor_lets_running_tasks_finish(supervisor, tmp_path):
    begin, control, gator = supervisor
    logs = {"all": tmp_path / "latergator.log", "other": tmp_path / "grouped.log"}

    def run_one_of_each():
        tasks = [
            gator.on_queue(name).options(save_results=600).task("myapp.tasks.resize", "a.jpg", 1.0)
            for name in logs
        ]
        for task, log in zip(tasks, logs.values(), strict=True):
            starts = re.compile(f"{task.task_id[-12:]} .*starts")
            eventually(lambda: log.exists() and starts.search(log.read_text()), "it runs")  # noqa: B023
        return tasks

    begin()
    tasks = run_one_of_each()
    said = control("restart", "all")
    assert said.count("stopped") == said.count("started") == 2, said
    assert [gator.status(each) for each in tasks] == [SUCCESS] * 2, "restart waits for them"
    tasks = run_one_of_each()
    assert control("stop", "all").count("stopped") == 2
    assert [gator.status(each) for each in tasks] == [SUCCESS] * 2
    assert control("status").count("STOPPED") == 2
    for log in logs.values():
        assert log.read_text().count("attempt 1).") == 4, "two starts, and two ends"
        assert "killing" not in log.read_text()
    said = (tmp_path / "supervisord.log").read_text()
    assert len(re.findall(r"stopped: \w+ \(exit status 0\)", said)) == 4, said
    assert "SIGKILL" not in said


def test_supervisor_does_not_give_up_while_the_server_is_away():
    # It waits one second longer after each try: more than a week.
    assert int(program()["startretries"]) >= 1000
    assert program().getboolean("autorestart")

"""Send fifty attacks to a worker as messages: none gets what it asks for.

Each is refused before anything is imported where the name decides, and before the call
where only the object can tell; it becomes a dead letter, and the next task runs.
"""

import base64
import importlib
import json
import sys

import pytest

from alligator import Gator, Task, Worker
from alligator.common import strict_json
from alligator.utils import import_attr, import_module
from tests.security import victim

HERE = "tests.security.victim"
KEY, OLD_KEY = "k" * 32, "o" * 32


def message(module, name, *args, task_id="x", **options):
    fields = {"task_id": task_id, "retries": 3, "is_async": True, "module": module}
    fields |= {"callable": name, "args": list(args), "kwargs": {}, "options": options}
    return json.dumps(fields)


def hook(module, name):
    return {"module": module, "callable": name}


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    """A file that a successful attack would make in the current directory, or take away."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").write_text("keep me")
    victim.called.clear()
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["precious"], "the attack did its work"


@pytest.fixture
def imports(monkeypatch):
    """Notes which modules messages had imported."""
    seen, real = [], importlib.import_module
    monkeypatch.setattr(
        "alligator.common.importing.importlib.import_module",
        lambda name: seen.append(name) or real(name),
    )
    return seen


def run(gator, data, task_id="x"):
    """Push a message as an attacker would, let a worker work, and return the dead letter."""
    gator.client.push(gator.queue_name, task_id, data)
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert victim.called == [], "something was called"
    (letter,) = gator.dead()
    assert letter.data == data
    assert letter.task_id == task_id
    return letter


# -- Where the name decides: nothing is imported. ---------------------------------------------

BY_NAME = [
    ("os", "system", "touch canary"),
    ("posix", "system", "touch canary"),
    ("os", "remove", "precious"),
    ("os", "popen", "touch canary"),
    ("os", "kill", 1, 0),
    ("os.path", "exists", "precious"),
    ("builtins", "eval", "open('canary', 'w')"),
    ("builtins", "exec", "open('canary', 'w')"),
    ("builtins", "open", "canary", "w"),
    ("builtins", "__import__", "antigravity"),
    ("builtins", "getattr", "x", "y"),
    ("subprocess", "run", ["touch", "canary"]),
    ("subprocess", "Popen", ["touch", "canary"]),
    ("subprocess", "getoutput", "touch canary"),
    ("sys", "exit", 1),
    ("sys", "setrecursionlimit", 5),
    ("shutil", "rmtree", "."),
    ("importlib", "import_module", "antigravity"),
    ("runpy", "run_path", "precious"),
    ("code", "interact"),
    ("pty", "spawn", "sh"),
    ("timeit", "timeit", "open('canary', 'w')"),
    ("cProfile", "run", "open('canary', 'w')"),
    ("profile", "run", "open('canary', 'w')"),
    ("pdb", "run", "open('canary', 'w')"),
    ("doctest", "testfile", "precious"),
    ("trace", "main"),
    ("webbrowser", "open", "http://localhost"),
    ("ctypes", "CDLL", "libc.so.6"),
    ("pickle", "loads", "cos\nsystem\n(S'touch canary'\ntR."),
    ("marshal", "loads", ""),
    ("shelve", "open", "canary"),
    ("socket", "create_connection", ["localhost", 1]),
    ("sqlite3", "connect", "canary"),
    ("logging.config", "dictConfig", {"version": 1}),
    ("asyncio.subprocess", "create_subprocess_shell", "touch canary"),
    ("urllib.request", "urlretrieve", "file:precious", "canary"),
    ("linecache", "getlines", "precious"),
    ("tempfile", "mkstemp"),
    ("signal", "raise_signal", 9),
    ("multiprocessing.util", "spawnv_passfds", "/bin/sh", [], []),
    ("unittest", "main"),
    ("pip", "main", ["download", "canary"]),
    ("django.core.management", "call_command", "shell"),
    ("alligator.cli", "main", ["drop", "--yes"]),
    ("alligator.utils", "import_attr", "os", "system"),
    (f"{HERE}.__main__", "main"),
    (f"{HERE}.__main__.x", "main"),
    ("tests.security.__init__", "main"),
    ("mailcap", "findmatch", {"x/y": [{"view": "x", "test": "touch canary"}]}, "x/y"),
    ("_testcapi", "run_in_subinterp", "open('canary', 'w')"),
    ("test.support.script_helper", "assert_python_ok", "-c", "open('canary', 'w')"),
    ("readline", "write_history_file", "canary"),
    ("logging", "basicConfig"),
    ("logging", "disable", 50),
    ("tracemalloc", "Snapshot.load", "precious"),
    ("lib2to3.main", "main", "lib2to3.fixes", ["-w", "-n", "precious"]),
    ("lib2to3.refactor", "RefactoringTool.write_file", "self", "x", "canary", "", "utf-8"),
    ("xml.sax", "make_parser", ["antigravity"]),
    ("uu", "encode", "precious", "canary"),
    ("wave", "open", "canary", "wb"),
    ("optparse", "Values.read_file", "self", "precious"),
    ("tkinter", "Tk.readprofile", "self", "b", "/../precious"),
    ("threading", "settrace", "x"),
    ("resource", "setrlimit", 7, [0, 0]),
    ("sympy", "sympify", "open('canary', 'w')"),
    (HERE, "_private"),
    (HERE, "__builtins__.eval", "1"),
    (HERE, "honest.__globals__.clear"),
    (HERE, "honest.__class__"),
    (HERE, "mailer.__class__.__base__.__subclasses__"),
    (HERE, "Mailer.__init__"),
]


@pytest.mark.parametrize("call", BY_NAME, ids=lambda call: ".".join(call[:2])[-40:])
def test_refused_by_its_name(call, imports):
    letter = run(Gator(f"locmem://{id(imports)}"), message(*call))
    assert letter.error.startswith("NotAllowed: ")
    assert letter.attempts == 1, "no retry will change it"
    assert imports == []


@pytest.mark.parametrize("call", BY_NAME, ids=lambda call: ".".join(call[:2])[-40:])
def test_refused_as_a_hook(call, imports):
    attack = hook(*call[:2])
    for name in ("on_start", "on_success", "on_error"):
        gator = Gator(f"locmem://{id(imports)}{name}")
        letter = run(gator, message("operator", "add", 1, 2, **{name: attack}))
        assert letter.error.startswith("NotAllowed: ")
    assert set(imports) <= {"operator"}


@pytest.mark.parametrize("call", BY_NAME, ids=lambda call: ".".join(call[:2])[-40:])
def test_refused_with_any_wildcard_list(call, imports):
    """A ``*`` that does not name the module does not open it."""
    gator = Gator(f"locmem://{id(imports)}", allowed=["*", "operator.*", "tests.support.jobs.*"])
    assert run(gator, message(*call)).error.startswith("NotAllowed: ")
    assert imports == []


OUTSIDE = [
    ("tests.support.jobs", "note"),
    ("tests.security.never", "imported"),
    ("tests.security.victimize", "honest"),
    ("xtests.security.victim", "honest"),
    ("operator", "add", 1, 2),
    ("builtins", "print", "hello"),
    (HERE, "honest2"),
]


@pytest.mark.parametrize("call", OUTSIDE, ids=lambda call: ".".join(call[:2])[-40:])
def test_what_is_not_listed_is_not_even_imported(call, imports):
    gator = Gator(f"locmem://{id(imports)}", allowed=[f"{HERE}.honest"])
    assert "not in the list" in run(gator, message(*call)).error
    assert imports == []
    hooked = Gator(f"locmem://{id(imports)}h", allowed=[f"{HERE}.honest"])
    data = message(HERE, "honest", on_success=hook(*call[:2]))
    assert "not in the list" in run(hooked, data).error
    assert imports == [HERE]


def test_a_name_split_elsewhere_leads_nowhere():
    """The same letters as an entry of the list, by way of a module."""
    gator = Gator("locmem://split", allowed=[f"{HERE}.honest"])
    assert (
        "reached through a module" in run(gator, message("tests.security", "victim.honest")).error
    )


# -- Where only the object can tell: nothing is called. ------------------------------------------

BY_OBJECT = [
    ("run", "touch canary"),
    ("system", "touch canary"),
    ("rmtree", "."),
    ("decorated_run", "touch canary"),
    ("Path.unlink", "precious"),
    ("Path.write_text", "canary", ""),
    ("method", "precious"),
    ("runner",),
    ("partial", "touch canary"),
    ("innocent_partial",),
    ("Mailer", "a class"),
    ("Thread", "a class"),
    ("mailer", "an instance"),
    ("mailer.send", "through an instance"),
    ("Mailer.popen", "touch canary"),
    ("Mailer.later", "no self"),
    ("Address.from_address", 8),
    ("Job.run", "no self"),
    ("shell.run", "touch canary"),
    ("operating_system.system", "touch canary"),
    ("operating_system.path.exists", "precious"),
    ("called.append", "through a list"),
    ("functools.partial", "x"),
]


@pytest.mark.parametrize("call", BY_OBJECT, ids=lambda call: call[0])
@pytest.mark.parametrize("allowed", [None, [f"{HERE}.*"], ["*"], ["tests.*"]], ids=str)
def test_refused_by_what_it_is(call, allowed):
    gator = Gator(f"locmem://{call[0]}{allowed}", allowed=allowed)
    assert run(gator, message(HERE, *call)).error.startswith("NotAllowed: ")


def test_refused_even_if_listed_by_the_name_it_was_imported_under():
    gator = Gator("locmem://alias", allowed=[f"{HERE}.run", f"{HERE}.honest"])
    letter = run(gator, message(HERE, "run", "touch canary"))
    assert "'subprocess.run' may not run here" in letter.error


def test_an_inherited_method_belongs_to_the_module_that_wrote_it():
    gator = Gator("locmem://inherited", allowed=[f"{HERE}.*"])
    assert "'threading.Thread.run'" in run(gator, message(HERE, "Job.run", 1)).error
    other = Gator("locmem://inherited_c", allowed=[f"{HERE}.*"])
    assert "'_ctypes" in run(other, message(HERE, "Address.from_address", 8)).error


# -- A Task of one's own. --------------------------------------------------------------------------


class Trusting(Task):
    """Reads whatever it is told, by the ways that the documents show."""

    @classmethod
    def deserialize(cls, data):
        fields = strict_json.loads(data)
        task = cls(task_id=fields["task_id"], retries=fields["retries"])
        if fields["options"].get("by_module"):
            function = import_module(fields["module"])
            for part in fields["callable"].split("."):
                function = getattr(function, part)
        elif fields["options"].get("by_importlib"):
            function = getattr(importlib.import_module(fields["module"]), fields["callable"])
        else:
            function = import_attr(fields["module"], fields["callable"])
        task.to_call(function, *fields["args"])
        return task


@pytest.mark.parametrize("way", ["by_attr", "by_module", "by_importlib"])
@pytest.mark.parametrize("allowed", [None, [f"{HERE}.*"]], ids=str)
@pytest.mark.parametrize(
    "call",
    [("os", "system", "touch canary"), ("builtins", "eval", "1"), (HERE, "run", "x")],
    ids=lambda call: call[1],
)
def test_a_deserialize_of_ones_own_is_held_to_it(way, allowed, call):
    gator = Gator(f"locmem://{way}{allowed}{call}", task_class=Trusting, allowed=allowed)
    assert run(gator, message(*call, **{way: True})).error.startswith("NotAllowed: ")


@pytest.mark.parametrize("module", ["tests.security.__main__", "tests.security.__main__.x"])
def test_a_deserialize_of_ones_own_runs_no_program(module, imports):
    gator = Gator(f"locmem://{module}", task_class=Trusting, allowed=["tests.*"])
    letter = run(gator, message(module, "main", by_module=True))
    assert "its module is a program" in letter.error
    assert imports == []


def test_a_hook_set_by_a_deserialize_of_ones_own_is_held_to_it():
    class Hooked(Task):
        @classmethod
        def deserialize(cls, data):
            task = super().deserialize(data)
            task.on_start = sys.exit
            return task

    letter = run(Gator("locmem://hooked", task_class=Hooked), message(HERE, "honest"))
    assert "'sys.exit'" in letter.error


# -- Signatures. -----------------------------------------------------------------------------------


@pytest.fixture
def signing(request):
    return Gator(f"locmem://{request.node.name}", "mail", secret_keys=[KEY, OLD_KEY])


def signed(gator, *args, task_id="x", **options):
    """Return what that Gator would put on its queue."""
    task = Task(task_id=task_id)
    task.to_call(victim.honest, *args)
    return gator.codec.encode(task, options.get("queue_name", gator.queue_name))


def other(gator, queue="mail", keys=(KEY, OLD_KEY)):
    return Gator(gator.conn_string + "-other", queue, secret_keys=list(keys))


def changed(data, old, new):
    assert old in data
    return data.replace(old, new, 1)


FORGERIES = {
    "unsigned": lambda gator: message(HERE, "honest"),
    "stripped": lambda gator: signed(gator).partition("\n")[2],
    "body changed": lambda gator: changed(signed(gator, 100), "[100]", "[900]"),
    "a space added": lambda gator: signed(gator) + " ",
    "function changed": lambda gator: changed(signed(gator), "honest", "system"),
    "made for another queue": lambda gator: signed(other(gator, "images")),
    "made with a foreign key": lambda gator: signed(other(gator, keys=["e" * 32])),
    "made with a retired key": lambda gator: signed(other(gator, keys=["r" * 32])),
    "id changed": lambda gator: changed(signed(gator, task_id="y"), ':"y"', ':"x"'),
    "pushed under another id": lambda gator: signed(gator, task_id="y"),
    "another version": lambda gator: changed(signed(gator), "signed:1:", "signed:2:"),
    "version 01": lambda gator: changed(signed(gator), "signed:1:", "signed:01:"),
    "no signature": lambda gator: 'alligator-signed:1::"x"\n' + message(HERE, "honest"),
    "short signature": lambda gator: (
        f'alligator-signed:1:{"0" * 63}:"x"\n' + message(HERE, "honest")
    ),
    "signature of zeros": lambda gator: (
        f'alligator-signed:1:{"0" * 64}:"x"\n' + message(HERE, "honest")
    ),
    "upper case": lambda gator: signed(gator).split(":")[2].upper() + signed(gator),
    "an envelope in an envelope": lambda gator: (
        signed(gator).partition("\n")[0] + "\n" + signed(gator)
    ),
    "no end of the header": lambda gator: signed(gator).replace("\n", " "),
    "an endless header": lambda gator: 'alligator-signed:1:"' + "x" * 100_000,
    "base64": lambda gator: base64.b64encode(signed(gator).encode()),
    "as bytes, changed": lambda gator: changed(signed(gator, 1), "[1]", "[2]").encode(),
    "lone surrogates": lambda gator: changed(signed(gator), "honest", "h\udcffnest"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_message_is_refused(forgery, signing):
    data = FORGERIES[forgery](signing)
    letter = run(signing, data)
    assert letter.error.startswith("BadSignature: ")
    assert KEY not in letter.error + letter.traceback


@pytest.mark.parametrize(
    "keys", [[KEY], [KEY, OLD_KEY], [OLD_KEY, KEY]], ids=["same", "old", "new"]
)
def test_a_genuine_one_runs_also_across_a_rotation(keys, signing):
    signing.client.push("mail", "x", signed(other(signing, keys=keys), 1))
    assert Worker(signing, burst=True, log_level="CRITICAL").run_forever() == 0
    assert victim.called == [((1,), {})]
    assert signing.dead() == []


def test_a_signed_message_does_not_run_where_there_are_no_keys(signing):
    letter = run(Gator(signing.conn_string, "mail"), signed(signing))
    assert "needs the secret_keys" in letter.error


def test_a_signed_message_is_still_held_to_the_list(signing):
    strict = Gator(signing.conn_string, "mail", secret_keys=[KEY], allowed=["operator.add"])
    assert "not in the list" in run(strict, signed(signing)).error

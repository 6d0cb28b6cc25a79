"""Test the help of each command, the version, and what shells complete."""

import re
import shutil
import subprocess

import pytest

import alligator
from alligator.cli import commands as cli
from alligator.cli import completion
from alligator.cli.parser import COMMANDS, LISTINGS, queue_parser


def helped(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*arguments])
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_sentences_examples_and_exit_codes(command, capsys):
    text = helped(capsys, command, "--help")
    about = COMMANDS[command]
    assert about.description.endswith(".")
    assert "Exit codes: 0" in text
    for example in about.examples:
        assert f"latergator.py {example}" in text
        assert example.startswith(command)
    assert ("--json" in text) is (command in LISTINGS)


def test_the_help_of_a_worker_names_each_command(capsys):
    text = helped(capsys, "--help")
    for about in COMMANDS.values():
        assert f"  latergator.py {about.usage} " in text
        assert about.summary in text
    assert "Exit codes of a worker: 0" in text


def test_each_command_is_carried_out():
    assert {*cli._COMMANDS, "completion", "dashboard"} == set(COMMANDS)


@pytest.mark.parametrize("before", [[], ["status"], ["drop", "locmem://x"]])
def test_version(before, capsys):
    assert helped(capsys, *before, "--version") == f"Alligator {alligator.version()}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_each_command_and_flag(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", script)
        for each in queue_parser(command)._actions:
            for name in each.option_strings:
                assert name.lstrip("-") in script
    assert "leash" not in script


def completed(words):
    script = completion.script("bash")
    line = " ".join(f"'{each}'" for each in words)
    script += f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _latergator\n"
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["latergator.py", "mo"], ["move"]),
        (["latergator.py", "re"], ["recent", "revive", "resume"]),
        (["latergator.py", "--proc"], ["--processes"]),
        (["latergator.py", "drop", "redis://x", "--y"], ["--yes"]),
        (["latergator.py", "redis://x", "--log-level", "W"], ["WARNING"]),
        (["latergator.py", "completion", "f"], ["fish"]),
        (["latergator.py", "status", "--y"], []),
    ],
)
def test_bash_completes(words, found):
    assert completed(words) == found

"""Write the scripts by which bash, zsh and fish complete commands, flags and their choices.

They are generated from the parsers. Libraries for this take one parser with subcommands; here a
worker is started by a DSN alone. A generated script also starts no Python at each TAB.
"""

import argparse

from alligator.cli.parser import COMMANDS, queue_parser, worker_parser

_BASH = """\
# Completes latergator.py in bash; in zsh, too, after: autoload -U +X bashcompinit && bashcompinit
_latergator() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  case "${{COMP_WORDS[1]}} $before" in
{choices}  esac
  if [ -z "$words" ]; then
    case "$COMP_CWORD ${{COMP_WORDS[1]}}" in
{flags}    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _latergator latergator.py
"""

_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def script(shell: str) -> str:
    """Return the script for a shell: ``'bash'``, ``'zsh'`` or ``'fish'``."""
    if shell == "fish":
        return _fish()
    return (_ZSH if shell == "zsh" else "") + _bash()


def _flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        each
        for each in parser._actions
        if each.option_strings and each.help is not argparse.SUPPRESS
    ]


def _names(parser: argparse.ArgumentParser) -> str:
    return " ".join(name for each in _flags(parser) for name in each.option_strings)


def _bash() -> str:
    parsers = {name: queue_parser(name) for name in COMMANDS}
    flags = [f'      "1 "*) words="{" ".join(COMMANDS)} {_names(worker_parser())}" ;;\n']
    choices = [
        f'    "{name} "{flag}) words="{" ".join(map(str, each.choices))}" ;;\n'
        for name, parser in parsers.items()
        for each in _flags(parser)
        for flag in each.option_strings
        if each.choices
    ]
    choices += [
        f'    *" "{flag}) words="{" ".join(map(str, each.choices))}" ;;\n'
        for each in _flags(worker_parser())
        for flag in each.option_strings
        if each.choices
    ]
    shells = next(each for each in parsers["completion"]._actions if each.dest == "shell")
    choices.append(f'    "completion completion") words="{" ".join(shells.choices or ())}" ;;\n')
    flags += [f'      *" {name}") words="{_names(each)}" ;;\n' for name, each in parsers.items()]
    flags.append(f'      *) words="{_names(worker_parser())}" ;;\n')
    return _BASH.format(choices="".join(choices), flags="".join(flags))


def _fish() -> str:
    lines = ["# Completes latergator.py in fish."]
    commands = " ".join(COMMANDS)
    fresh = f"not __fish_seen_subcommand_from {commands}"
    lines += [
        f"complete -c latergator.py -n '{fresh}' -a {name} -d {_quoted(about.summary)}"
        for name, about in COMMANDS.items()
    ]
    lines += _fish_flags(worker_parser(), fresh)
    for name in COMMANDS:
        lines += _fish_flags(queue_parser(name), f"__fish_seen_subcommand_from {name}")
    return "\n".join(lines) + "\n"


def _fish_flags(parser: argparse.ArgumentParser, condition: str) -> list[str]:
    lines = []
    for each in parser._actions:
        if each.help is argparse.SUPPRESS:
            continue
        values = " ".join(map(str, each.choices or ()))
        if not each.option_strings:
            if values:
                lines.append(f"complete -c latergator.py -n '{condition}' -f -a '{values}'")
            continue
        long = next(name[2:] for name in each.option_strings if name.startswith("--"))
        takes = "" if each.nargs == 0 else " -r"
        chosen = f" -f -a '{values}'" if values else ""
        about = _quoted(each.help or "")
        lines.append(
            f"complete -c latergator.py -n '{condition}' -l {long}{takes}{chosen} -d {about}"
        )
    return lines


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""Make unexpected messages: damage and cross those of the corpus."""

import json
import random

from tests.support.corpus.messages import CASES, message

#: Messages of reasonable length to begin with; good ones count for more.
SEEDS = [case.data for case in CASES if len(case.data) < 2_000]
_TASKS = [message(args=[1, "a"], kwargs={"b": None}), message(callable="fail", retries=2)]
SEEDS += _TASKS * 20

_OBJECTS = []
for _seed in SEEDS:
    try:
        _OBJECTS.append(json.loads(_seed))
    except ValueError:
        continue
_OBJECTS = [each for each in _OBJECTS if isinstance(each, dict)]
_GOOD = [json.loads(each) for each in _TASKS]
_WHOLE = [each for each in _OBJECTS if {"task_id", "module"} <= set(each)]

_WORDS = r"""
    [ ] { } " \ , : null true false 0 -1 1e999 1e-999 NaN Infinity -0 "" "options": "retries":3
    "task_id":"y" "module":"os" "callable":"system" "args":[] "kwargs":{} "on_start": "on_error":
    "delay_until":1 "priority":100 "retry_delay":0 __class__ __globals__ . .. \u0000 \ud800
    \udc00 alligator-signed:1: tests.support.jobs note fail subprocess builtins eval
"""
_TOKENS = _WORDS.split()
_TOKENS += ["\0", "\n", "\r", "\x1b[2J", "\u202e", "\ufeff", " ", "9" * 50, "[" * 101, "😀"]


def mutate(seed: int) -> str | bytes:
    """Return one message; the same seed gives the same."""
    dice = random.Random(seed)
    if dice.random() < 0.6:
        return json.dumps(_crossed(dice))
    data = dice.choice(SEEDS)
    text = data if isinstance(data, str) else data.decode("latin-1")
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        text = dice.choice(_DAMAGES)(text, dice)
    if dice.random() < 0.2:
        return text.encode(dice.choice(("utf-8", "utf-16", "latin-1")), "replace")
    return text


def _crossed(dice: random.Random) -> dict:
    """Return a task with fields, options and arguments of others."""
    crossed = dict(dice.choice(_GOOD if dice.random() < 0.6 else _WHOLE))
    for _ in range(dice.choice((1, 1, 2, 3))):
        other = dice.choice(_OBJECTS)
        if not other:
            continue
        name = dice.choice(list(other))
        mine = crossed.get(name)
        if isinstance(mine, dict) and isinstance(other[name], dict) and dice.random() < 0.7:
            crossed[name] = {**mine, **other[name]}
        else:
            crossed[dice.choice([name, name, name, *crossed])] = other[name]
    return crossed


def _piece(text: str, dice: random.Random) -> tuple[int, int]:
    start = dice.randint(0, len(text))
    return start, min(len(text), start + dice.choice((1, 1, 2, 5, 20)))


def _without_a_piece(text: str, dice: random.Random) -> str:
    start, end = _piece(text, dice)
    return text[:start] + text[end:]


def _with_a_piece_twice(text: str, dice: random.Random) -> str:
    start, end = _piece(text, dice)
    return text[:end] + text[start:]


def _with_a_token(text: str, dice: random.Random) -> str:
    start, end = _piece(text, dice)
    return text[:start] + dice.choice(_TOKENS) + text[start if dice.random() < 0.5 else end :]


def _with_another_letter(text: str, dice: random.Random) -> str:
    start, end = _piece(text, dice)
    return (
        text[:start] + chr(dice.choice((dice.randrange(128), dice.randrange(0x11000)))) + text[end:]
    )


_DAMAGES = (_without_a_piece, _with_a_piece_twice, _with_a_token, _with_another_letter)

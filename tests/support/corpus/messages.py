"""List messages that may be on a queue, with their outcome: the one table of bad input.

Each message is pushed as it stands, with good tasks before and after it.
"""

import bz2
import gzip
import json
import marshal
import pickle
import zlib
from dataclasses import dataclass

#: A dead letter, with its bytes exactly as they came.
DEAD = "dead"

#: Tried again a few times, since a deploy may be under way; then a dead letter.
LATER = "later"

#: It only looks bad: it runs, once.
FINE = "fine"


@dataclass(frozen=True)
class Case:
    """One message.

    :param says: what its dead letter says: the class of the error, and a piece of its text.
    :param calls: how often it calls ``jobs.note``.
    """

    name: str
    data: str | bytes
    ends: str
    says: str = ""
    calls: int = 0


#: Modules that are made for the tests, since no other would want them.
MODULES = {
    "corpus_raises": "raise ValueError('at import')",
    "corpus_exits": "raise SystemExit(3)",
    "corpus_interrupts": "raise KeyboardInterrupt",
    "corpus_odd": "class Odd(BaseException): pass\nraise Odd('at import')",
    "corpus_syntax": "def (",
    "corpus_null": "x = '\0'",
    "corpus_imports": "import corpus_is_not_there",
    "corpus_circle": "from corpus_circle import itself",
    "corpus_recursion": "def f(): f()\nf()",
    "corpus_things": "import json\nNUMBER, NOTHING, TEXT = 5, None, 'text'\nclass Thing: pass\n",
    "corpus_getattr": (
        "def __getattr__(name):\n"
        "    raise {'value': ValueError, 'leave': SystemExit, 'stop': KeyboardInterrupt}.get(\n"
        "        name, AttributeError)(name)"
    ),
}

GOOD = {"task_id": "x", "retries": 0, "is_async": True, "module": "tests.support.jobs"}
GOOD |= {"callable": "note", "args": [], "kwargs": {}, "options": {}}


def message(**fields):
    """Return a good message, but for these fields."""
    return json.dumps(GOOD | fields)


def raw(name, text):
    """Return a good message with the text of one field written by hand."""
    return message(**{name: "@"}).replace('"@"', text)


def without(*names):
    return json.dumps({name: value for name, value in GOOD.items() if name not in names})


def options(**values):
    return message(options=values)


def hook(name, when="on_start", module="tests.support.corpus.hostile", **fields):
    return message(options={when: {"module": module, "callable": name}}, **fields)


def dead(says, /, **messages):
    return [Case(name.replace("_", " "), data, DEAD, says) for name, data in messages.items()]


def later(says, /, **messages):
    return [Case(name.replace("_", " "), data, LATER, says) for name, data in messages.items()]


def fine(*, calls=1, **messages):
    return [Case(name.replace("_", " "), data, FINE, "", calls) for name, data in messages.items()]


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        from tests.support import jobs

        return jobs.note, ("unpickled",)


def _text_of(levels, opening, closing, core="1"):
    return opening * levels + core + closing * levels


NOT_JSON = [
    *dead(
        "BadPayload: not JSON",
        empty="",
        empty_bytes=b"",
        blank=" \n\t ",
        words="no json",
        only_a_brace="{",
        cut_short=message()[:-1],
        cut_in_a_string=message()[:15],
        text_after_it=message() + " x",
        two_of_them=message() * 2,
        single_quotes=str(GOOD),
        comma_at_the_end=message()[:-1] + ",}",
        a_comment=message() + " // fine",
        a_newline_in_a_string=raw("task_id", '"a\nb"'),
        a_NUL_in_a_string=raw("task_id", '"a\0b"'),
        a_NUL_at_the_end=message() + "\0",
        only_NULs=b"\0" * 100,
        an_unknown_escape=raw("task_id", r'"\x41"'),
        half_an_escape=raw("task_id", r'"\u00'),
        BOM=chr(0xFEFF) + message(),
        BOM_in_UTF8=message().encode("utf-8-sig"),
        UTF16=message().encode("utf-16"),
        UTF16_big_endian=message().encode("utf-16-be"),
        UTF32=message().encode("utf-32"),
        latin1=raw("task_id", '"schräg"').encode("latin-1"),
        UTF8_cut_short=raw("task_id", '"✓').encode()[:-1],
        UTF8_too_long=raw("task_id", '"@"').encode().replace(b"@", b"\xc0\xaf"),
        surrogates_in_UTF8=raw("task_id", '"\ud800"').encode(errors="surrogatepass"),
        gzip=gzip.compress(message().encode()),
        zlib=zlib.compress(message().encode()),
        bz2_as_in_the_documents=bz2.compress(message().encode()),
        pickle_0=pickle.dumps(Bomb(), 0),
        pickle_2=pickle.dumps(Bomb(), 2),
        pickle_5=pickle.dumps(Bomb(), 5),
        pickle_as_text=pickle.dumps(Bomb(), 0).decode(),
        marshal=marshal.dumps(GOOD),
        yaml="!!python/object/apply:tests.support.jobs.note [unpickled]",
        xml="<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>",
        a_picture=b"\x89PNG\r\n\x1a\n",
        all_bytes=bytes(range(256)),
        NaN="NaN",
        NaN_as_argument=raw("args", "[NaN]"),
        Infinity_as_argument=raw("args", "[Infinity]"),
        minus_Infinity_as_argument=raw("args", "[-Infinity]"),
        number_too_large=raw("args", "[1e999]"),
        number_too_small=raw("args", "[-1e999]"),
        number_with_a_zero=raw("args", "[007]"),
        number_of_5000_digits=raw("args", f"[{'9' * 5000}]"),
        retries_of_5000_digits=raw("retries", "9" * 5000),
        NaN_as_delay=options(delay_until=float("nan")),
        too_large_a_delay=raw("options", '{"delay_until": 1e400}'),
    ),
    *dead(
        "BadPayload: stands twice",
        task_id_twice='{"task_id": "y", ' + message()[1:],
        module_twice=message()[:-1] + ', "module": "os"}',
        keyword_twice=raw("kwargs", '{"a": 1, "a": 2}'),
        name_twice_far_inside=raw("args", '[[{"a": 1, "\\u0061": 2}]]'),
        hook_twice=raw("options", '{"on_start": null, "on_start": null}'),
    ),
    *dead(
        "BadPayload: deeper",
        deep_lists="[" * 100_000 + "]" * 100_000,
        deep_objects=_text_of(100_000, '{"a":', "}"),
        deep_mixture=_text_of(50_000, '[{"a":', "}]"),
        deep_and_never_closed='{"a":[' * 50_000,
        deep_argument=raw("args", _text_of(100_000, "[", "]")),
        deep_keyword=raw("kwargs", _text_of(100_000, '{"a":', "}")),
        deep_hook=raw("options", '{"on_start":' + _text_of(100_000, "[", "]") + "}"),
        a_little_too_deep=raw("args", _text_of(100, "[", "]")),
    ),
    *dead("BadPayload: at most 67108864 are read", too_long='"' + "x" * 67_108_864 + '"'),
]

NO_TASK = [
    *dead("BadPayload: not an object", null="null", true="true", zero="0", text='"text"'),
    *dead("BadPayload: not an object", no_list="[]", in_a_list=f"[{message()}]"),
    *dead("BadPayload: not an object", JSON_in_JSON=json.dumps(message())),
    *dead("BadPayload: 'task_id' of the message is missing", empty_object="{}"),
    *dead("BadPayload: is missing, not str", no_task_id=without("task_id")),
    *dead("BadPayload: is missing, not int", no_retries=without("retries")),
    *dead("BadPayload: is missing, not str", no_module=without("module")),
    *dead("BadPayload: is missing, not str", no_callable=without("callable")),
    *fine(all_defaults=without("is_async", "args", "kwargs", "options")),
    *fine(nulls_for_defaults=message(is_async=None, args=None, kwargs=None, options=None)),
    *fine(a_field_of_ones_own=message(colour="blue")),
]

#: By field: values that it cannot have, and what is said of them.
_WRONG = {
    "task_id": [5, None, True, [], {}, "", "x" * 201, "a\n", "\0", "\ud800", "\u202e", "\x7f"],
    "retries": ["3", 1.5, 1e3, True, None, [], {}, -1, 10**9, 10**4000],
    "is_async": [[], {}, 1.5],
    "module": [5, None, [], {}, True],
    "callable": [5, None, [], {}, True],
    "args": [{}, "abc", 5, True, {"0": 1}],
    "kwargs": [[], "abc", 5, True, [["a", 1]]],
    "options": [[], "abc", 5, True],
}
_WRONG_OPTIONS = {
    "delay_until": ["soon", "2030-01-01", True, [], {}],
    "priority": [10**9, 101, -101, 1.5, "high", True, []],
    "retry_delay": [-1, "1", True, []],
    "retry_backoff": [0.5, -1, "2", []],
    "retry_max_delay": [-1, "1", {}],
    "timeout": [0, -1, "1", True, [], {}],
    "expires_at": ["soon", True, [], {}],
    "retried": ["1", 1.5, True, []],
    "on_start": ["tests.support.jobs.note", 5, [], {}, True, False, ["tests.support.jobs", "note"]],
    "on_success": [
        {"module": "tests.support.jobs"},
        {"callable": "note"},
        {"module": 5, "callable": 5},
    ],
    "on_error": [{"module": None, "callable": None}, [{"module": "tests.support.jobs"}]],
}


def _named(name, value):
    return f"{name} {json.dumps(value)[:20]}"


WRONG_TYPES = [
    *(
        Case(_named(name, value), message(**{name: value}), DEAD, f"BadPayload: {name}")
        for name, values in _WRONG.items()
        for value in values
    ),
    *(
        Case(_named(name, value), options(**{name: value}), DEAD, "BadPayload: ")
        for name, values in _WRONG_OPTIONS.items()
        for value in values
    ),
]

OPTIONS = [
    *fine(
        not_async=message(is_async=False),
        async_of_old=without("is_async")[:-1] + ', "async": true}',
        not_async_of_old=without("is_async")[:-1] + ', "async": false}',
        async_under_both_names=message()[:-1] + ', "async": false}',
        due_before_1970=options(delay_until=-5),
        due_in_a_thousand_years=options(delay_until=33_000_000_000),
        endless_delays=options(retry_delay=1e308, retry_backoff=1e308, retry_max_delay=0),
        no_options=options(on_start=None, priority=None, delay_until=None, retried=None),
        an_option_not_set=options(depends_on=None, expires=None),
        an_id_of_200_letters=message(task_id="ä" * 200),
        an_id_with_spaces=message(task_id=" ; rm -rf '\"` % \\"),
    ),
    *fine(
        async_from_the_environment=message(is_async="True"),
        async_0=message(is_async="False"),
        async_number=message(is_async=1),
        async_text_of_old=without("is_async")[:-1] + ', "async": "1"}',
    ),
    *dead("BadPayload: expires", seconds=options(expires=5), hidden=options(expires={})),
    *fine(timeout=options(timeout=30), endless_timeout=options(timeout=1e300)),
    *fine(waited_for_others=options(depends_on=["a", "b"])),
    *dead("BadPayload", waits_for_text=options(depends_on="a"), deep=options(depends_on=[["a"]])),
    *fine(headers=options(headers={"tenant": "ada", "note": ""}), no_headers=options(headers={})),
    *dead(
        "BadPayload: header",
        headers_of_a_number=options(headers={"tenant": 5}),
        headers_in_lines=options(headers={"tenant": "ada\nroot"}),
        headers_without_a_name=options(headers={"": "ada"}),
        headers_in_a_list=options(headers=["tenant"]),
        too_many_headers=options(headers={str(each): "" for each in range(33)}),
        too_long_headers=options(headers={"a": "x" * 8192}),
    ),
    *fine(named_errors=options(retry_on=["not.there.Error"], give_up_on=["builtins.OSError"])),
    *dead(
        "BadPayload: retry_on",
        errors_with_code=options(retry_on=["os.system('x')"]),
        errors_by_number=options(retry_on=[1]),
        no_errors=options(retry_on=[]),
    ),
    *fine(limited=options(limit=3, limit_key="a", rate=[5, 1.0], rate_key="b")),
    *dead("BadPayload: limit", limit_of_none=options(limit=0)),
    *dead("BadPayload: rate", rate_of_none=options(rate=[0, 1])),
    *dead("BadPayload: not_known_yet", unknown_option=options(not_known_yet=True)),
]

NAMES = [
    *later(
        "UnknownModuleError: cannot be imported",
        no_such_module=message(module="no_such_module"),
        no_such_submodule=message(module="tests.no_such_module"),
        below_a_module=message(module="tests.support.jobs.note"),
        not_ASCII=message(module="tests.support.jöbs"),
        a_keyword=message(module="class"),
        hook_in_no_module=hook("note", module="no_such_module"),
    ),
    *dead(
        "ImportFailed: cannot be imported",
        raises_at_import=message(module="corpus_raises"),
        leaves_at_import=message(module="corpus_exits"),
        no_Python=message(module="corpus_syntax"),
        a_null_in_the_source=message(module="corpus_null"),
        imports_what_is_not_there=message(module="corpus_imports"),
        imports_itself=message(module="corpus_circle"),
        endless_recursion=message(module="corpus_recursion"),
        hook_in_a_broken_module=hook("note", module="corpus_raises"),
        odd_error_at_import=message(module="corpus_odd"),
    ),
    *later(
        "UnknownCallableError: has no",
        no_such_function=message(callable="not_there"),
        no_such_method=message(callable="Mailer.not_there"),
        in_the_script=message(module="__main__", callable="not_there_at_all"),
        getattr_says_no=message(module="corpus_getattr", callable="anything"),
        no_such_hook=hook("not_there"),
    ),
    *dead(
        "ImportFailed: raised SystemExit",
        getattr_leaves=message(module="corpus_getattr", callable="leave"),
    ),
    *later(
        "KeyboardInterrupt",  # as a person at the keyboard would leave it, too
        interrupts_at_import=message(module="corpus_interrupts"),
        getattr_interrupts=message(module="corpus_getattr", callable="stop"),
    ),
    *dead(
        "ImportFailed: asked for 'value', raised",
        getattr_raises=message(module="corpus_getattr", callable="value"),
    ),
    *dead(
        "BadPayload: not 'package.module.function'",
        empty_module=message(module=""),
        blank_module=message(module=" "),
        dot=message(module="."),
        relative=message(module="..os"),
        dot_in_front=message(module=".tests.support.jobs"),
        dot_behind=message(module="tests.support.jobs."),
        two_dots=message(module="tests.support..jobs"),
        a_path=message(module="tests/support/jobs"),
        a_file=message(module="/etc/passwd"),
        a_colon=message(module="tests:jobs"),
        space_behind=message(module="tests.support.jobs "),
        newline_behind=message(module="tests.support.jobs\n"),
        NUL_in_module=message(module="tests.support.jobs\0"),
        surrogate_in_module=message(module="\ud800"),
        digits=message(module="1.2"),
        empty_callable=message(callable=""),
        parentheses=message(callable="note()"),
        semicolon=message(callable="note;note"),
        a_lambda=message(callable="<lambda>"),
        a_local=message(callable="note.<locals>.f"),
        empty_part=message(callable="Mailer..send"),
        NUL_in_callable=message(callable="note\0"),
        surrogate_in_callable=message(callable="note\udfff"),
        bidi=message(callable="note\u202e"),
    ),
    *dead(
        "BadPayload: no plain function",
        a_list=message(callable="seen"),
        a_number=message(module="corpus_things", callable="NUMBER"),
        a_None=message(module="corpus_things", callable="NOTHING"),
        a_string=message(module="corpus_things", callable="TEXT"),
        a_module=message(module="corpus_things", callable="json"),
        a_hook_that_is_a_list=hook("seen", module="tests.support.jobs"),
        a_hook_that_is_a_coroutine=hook("coroutine", module="tests.support.jobs"),
    ),
    *dead(
        "NotAllowed: may not run here",
        a_class=message(module="corpus_things", callable="Thing"),
        by_way_of_a_module=message(module="corpus_things", callable="json.dumps"),
        double_underscores=message(callable="note.__globals__"),
        a_class_as_a_hook=hook("Mailer", module="tests.support.jobs"),
    ),
    *dead(
        "BadPayload: ",
        endless_module=message(module="m" * 50_000),
        endless_parts=message(module=".".join("m" * 2_000)),
        endless_callable=message(callable="c" * 50_000),
        endless_attributes=message(callable=".".join("c" * 10_000)),
    ),
    *fine(calls=0, a_coroutine=message(callable="coroutine", args=[])),
    *fine(calls=0, a_static_method=message(callable="Mailer.send", args=["me"])),
]

ARGUMENTS = [
    *dead(
        "TypeError: argument",
        too_many=message(callable="fail", args=[1, 2]),
        too_few=message(callable="Mailer.send"),
        one_twice=message(callable="fail", args=["a"], kwargs={"message": "b"}),
        not_known=message(callable="fail", kwargs={"nothing": 1}),
        surrogate_for_a_name=message(callable="fail", kwargs={"\ud800": 1}),
        NUL_for_a_name=message(callable="fail", kwargs={"\0\n\x1b[2J": 1}),
    ),
    *dead(
        "ValueError: ",
        fails=message(callable="fail"),
        fails_with_a_surrogate=message(callable="fail", args=["\ud800"]),
        fails_with_NULs=message(callable="fail", args=["\0" * 100]),
        fails_with_controls=message(callable="fail", args=["\r\n\x1b[2J\x07\u2028\u202e"]),
        fails_without_text=message(callable="fail", args=[None]),
        fails_with_a_list=message(callable="fail", args=[[["a"], {"b": None}]]),
    ),
    *dead(
        "ValueError: ",
        fails_at_length=message(callable="fail", args=["long " * 10_000]),
        fails_at_length_with_controls=message(callable="fail", args=["\0" * 5_000]),
    ),
    *dead(
        "BadPayload: ",
        an_endless_id=message(task_id="\1" * 5_000),
        an_endless_priority=options(priority="x" * 50_000),
    ),
    *fine(
        odd_names_of_keywords=message(kwargs={"": 1, "a b": 2, "1": 3, "class": 4, "\0": 5}),
        reserved_names=message(kwargs={"self": 1, "func": 2, "args": 3, "task_id": 4}),
        surrogates=message(args=["\ud800", "\udc00\ud800"], kwargs={"\udfff": 1}),
        a_pair=raw("args", r'["\ud83d\ude00"]'),
        controls=message(args=[bytes(range(32)).decode(), "\x7f\x85\u2028\ufeff\uffff"]),
        brackets_in_text=message(args=["[{" * 50_000]),
        brackets_after_backslashes=message(args=['\\"[{' * 20_000]),
        nearly_too_deep=raw("args", _text_of(98, "[", "]")),
        many_lists=message(args=[[[]]] * 10_000),
        a_long_number=raw("args", f"[{'9' * 4300}]"),
        large_and_small=raw("args", "[1.7976931348623157e308, 5e-324, -0.0, 1e-999]"),
        raw_UTF8=raw("args", '["schräg ✓ 😀"]'),
        bytes_of_UTF8=raw("args", '["schräg ✓ 😀"]').encode(),
        with_spaces=json.dumps(GOOD, indent=40),
    ),
]

_SPOILED = ["delay_below_zero", "no_end_of_retries", "no_task_id", "another_function"]
_SPOILED += ["arguments_gone"]
_UNFIT = ["no_retries", "retries_as_text", "retries_deleted", "delay_as_text"]
_UNFIT += ["delay_not_a_number"]


def _hooked(when, names, ends, says="", **fields):
    return [
        Case(f"{when} {name}", hook(name, when, **fields), ends, says, int(ends == FINE))
        for name in names
    ]


HOOKS = [
    *_hooked("on_start", ["raising", "exiting"], FINE),
    *_hooked("on_success", ["raising", "exiting", "hook_not_callable", *_SPOILED], FINE),
    *_hooked("on_success", [*_UNFIT, "interrupting", "result_deleted", "all_deleted"], FINE),
    *_hooked("on_start", ["hook_not_callable"], FINE),
    *(
        case
        for when in ("on_start", "on_error")
        for case in _hooked(when, _UNFIT, DEAD, "ValueError: too much", callable="fail", retries=1)
    ),
    *_hooked(
        "on_error",
        [*_SPOILED, "all_deleted"],
        DEAD,
        "ValueError: too much",
        callable="fail",
        retries=1,
    ),
    # A hook before the function decides what is run.
    *_hooked("on_start", _SPOILED[:3], DEAD, "ValueError: too much", callable="fail", retries=1),
    *_hooked("on_start", _SPOILED[3:], DEAD, "TypeError: ", callable="fail", retries=1),
    *_hooked("on_start", ["all_deleted"], DEAD, "AttributeError: ", callable="fail", retries=1),
]

CASES = NOT_JSON + NO_TASK + WRONG_TYPES + OPTIONS + NAMES + ARGUMENTS + HOOKS

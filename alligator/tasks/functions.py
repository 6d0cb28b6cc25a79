"""Name a function for a message, import it by that name, and check how it is called."""

import functools
import inspect
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from alligator.common.importing import LONGEST_NAME, determine_module, import_attr
from alligator.common.text import describe_error, shorten
from alligator.exceptions import BadPayload, InvalidTask

_ADVICE = "a task must be a function that its module can be asked for by name"
_CALLED = "Was its function called already? Write gator.task(f, 1) instead of gator.task(f(1))"
_WRAPS = "If a decorator made it, give its wrapper functools.wraps"


def split_name(name: str) -> tuple[str, str]:
    """Return module and attribute of ``'myapp.tasks.resize'`` or ``'myapp.tasks:Mailer.send'``.

    :raises InvalidTask: the text names no module, or has empty parts.
    """
    if len(name) > LONGEST_NAME:
        raise InvalidTask(f"{shorten(name)!r} has more than {LONGEST_NAME} characters.")
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        raise InvalidTask(f"{name!r} is not 'package.module.function' or 'module:qualified.name'.")
    return module, attribute


def refuse_coroutine(func: Any) -> None:
    """Refuse the coroutine of a function that was called already, as in ``gator.task(f())``.

    It is closed, so that Python does not warn that it was never awaited.

    :raises InvalidTask: with what to write instead.
    """
    if isinstance(func, Coroutine):
        name = shorten(getattr(func, "__qualname__", "") or repr(func), 60)
        func.close()
        raise InvalidTask(
            f"{name}(…) was called already, which made a coroutine of it; give the function and "
            f"its arguments apart: gator.task({name}, …)."
        )


@functools.lru_cache(maxsize=4096)
def wire_name(func: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and the qualified name by which a worker imports this function.

    :raises InvalidTask: a lambda, a local function, a bound method, a class, a partial, or
        anything else that an import by name does not return; see also :func:`check_runs`.
    """
    if not callable(func) or isinstance(func, type | functools.partial):
        raise _no_function(func)
    qualified = getattr(func, "__qualname__", "")
    if "<lambda>" in qualified or "<locals>" in qualified:
        wraps = "" if "<lambda>" in qualified else f" {_WRAPS}."
        raise InvalidTask(f"{qualified} is a lambda or a local function; {_ADVICE}.{wraps}")
    check_runs(func)
    for name in dict.fromkeys((qualified, getattr(func, "__name__", ""))):
        module = getattr(func, "__module__", None)
        if name and module and _imports_as(module, name) == getattr(func, "__adapted__", func):
            return determine_module(func), name
    raise InvalidTask(
        f"{func!r} cannot be imported back by its name; {_ADVICE}. If it was defined in a shell, "
        "put it into a module, such as myapp/tasks.py."
    )


def _no_function(value: Any) -> InvalidTask:
    """Return an error that says what to write instead of a value that is no function."""
    if isinstance(value, functools.partial):
        hint = " Give the function and its arguments to task(): gator.task(f, 1)."
    else:
        hint = "" if callable(value) else f" {_CALLED}."
    return InvalidTask(f"{shorten(repr(value))} is not a function; {_ADVICE}.{hint}")


_CACHED = type(functools.lru_cache(len))  # it returns what the function in it returns


def kind_of(func: Any) -> str:
    """Return ``'generator function'``, ``'async generator function'`` or ``'coroutine function'``.

    Return '' for a plain function: as far as can be seen, a call runs it.
    """
    while isinstance(func, _CACHED | functools.partial):
        func = func.__wrapped__ if isinstance(func, _CACHED) else func.func
    for each in (func, getattr(type(func), "__call__", None)):  # noqa: B004 - to look into it
        # One decorated with types.coroutine is awaited as a coroutine is.
        code = getattr(each, "__code__", None)
        if inspect.iscoroutinefunction(each) or (
            isinstance(code, types.CodeType) and code.co_flags & inspect.CO_ITERABLE_COROUTINE
        ):
            return "coroutine function"
        if inspect.isasyncgenfunction(each):
            return "async generator function"
        if inspect.isgeneratorfunction(each):
            return "generator function"
    return ""


def check_runs(func: Any) -> None:
    """Refuse a function whose call runs no line of it.

    :raises InvalidTask: it is a generator function, async or not; or a coroutine.
    """
    refuse_coroutine(func)
    kind = kind_of(func)
    if "generator" in kind:
        name = getattr(func, "__qualname__", None) or shorten(repr(func), 60)
        raise InvalidTask(
            f"{name} has a 'yield', which makes it {_a(kind)}: to call it runs nothing of it. "
            "Iterate over it inside another function, and let that be the task."
        )


def check_hook(hook: Any, name: str) -> None:
    """Refuse a hook that must be awaited or iterated over.

    :param name: the option.
    :raises InvalidTask: it is a coroutine function or a generator function.
    """
    if kind := kind_of(hook):
        shown = getattr(hook, "__qualname__", None) or shorten(repr(hook), 60)
        raise InvalidTask(f"{name}={shown} is {_a(kind)}; hooks are plain functions.")


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _imports_as(module: str, name: str) -> Any:
    try:
        return import_attr(module, name)
    except Exception:
        return None


def check_callable(func: Callable[..., Any], in_process: bool) -> tuple[str, str]:
    """Return the module and the name of a function; refuse one that no worker can run.

    :param in_process: whether the worker is in this process, as with locmem.
    :raises InvalidTask: see :func:`wire_name`; or the function is defined in ``__main__``, which
        is another module in a worker.
    """
    refuse_coroutine(func)
    try:
        module, name = wire_name(func)
    except TypeError as err:  # unhashable, so surely not a function
        raise _no_function(func) from err
    if module == "__main__" and not in_process:
        raise InvalidTask(
            f"{name} is defined in the script that runs (__main__), which a worker cannot "
            "import; move it to a module of its own."
        )
    return module, name


@functools.lru_cache(maxsize=4096)
def signature_of(func: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None: it has none that is known."""
    try:
        return inspect.signature(func)
    except (TypeError, ValueError):  # some builtins have none
        return None


def check_arguments(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Refuse arguments that do not fit the signature of a function.

    :raises InvalidTask: with Python's own text, which says which arguments.
    """
    check_shape(func, len(args), tuple(kwargs))


@functools.lru_cache(maxsize=4096)
def check_shape(func: Callable[..., Any], count: int, names: tuple[str, ...]) -> None:
    """Refuse so many arguments, and others of these names: whether they fit depends on no more.

    :raises InvalidTask: see :func:`check_arguments`.
    """
    signature = signature_of(func)
    if signature is not None:
        try:
            signature.bind(*([None] * count), **dict.fromkeys(names))
        except TypeError as err:
            name = getattr(func, "__qualname__", repr(func))
            raise InvalidTask(
                f"{name}{signature} cannot be called with these arguments: {err}."
            ) from err


def positional(
    func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return arguments with as many of them by position as the signature of a function lets.

    So ``f(1, b=2)`` and ``f(b=2, a=1)`` become the same. Defaults are not filled in. A function
    that is known by its name only, or has no known signature, keeps its arguments as given.
    """
    signature = None if isinstance(func, str) else signature_of(func)
    if signature is None:
        return args, kwargs
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # refused elsewhere, with a text
        return args, kwargs
    return bound.args, bound.kwargs


def import_callable(
    module: str, name: str, *, plain: bool = False, adapt: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    """Import the function that a message names.

    :param plain: whether it must be a function without ``async`` and ``yield``.
    :param adapt: makes the function of what the name leads to; None: it is the function.
    :raises UnknownModuleError, UnknownCallableError: it does not exist, perhaps not yet.
    :raises ImportFailed: its module raised an error while it was imported.
    :raises BadPayload: it exists and cannot be called.
    """
    found = import_attr(module, name, adapt)
    kind = "" if callable(found) else type(found).__name__
    if kind or (plain and (kind := kind_of(found))):
        raise BadPayload(f"{shorten(f'{module}.{name}')!r} is no plain function but a {kind}.")
    return found  # type: ignore[no-any-return]


def fits(func: Callable[..., Any], count: int) -> bool:
    """Return whether a function takes that many arguments; True if it has no known signature."""
    try:
        signature = signature_of(func)
    except TypeError:  # it cannot be hashed, and so not be cached
        signature = signature_of.__wrapped__(func)
    if signature is None:
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def takes_two(hook: Callable[..., Any]) -> bool:
    """Return whether a hook takes two arguments; one that takes one gets the task alone."""
    return fits(hook, 2)


def explain_json(err: BaseException, what: str = "the arguments") -> str:
    """Return an error text that says why arguments, or another value, do not survive JSON."""
    return f"{what} must survive JSON ({describe_error(err)})"

"""Read the DSN of a SQLite file: its path, and how it is written to the disk."""

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from alligator.backends.dsn import mask_password, unknown_parameter
from alligator.common.importing import NO_DIRECTORY, current_directory
from alligator.common.text import describe_error, shorten
from alligator.exceptions import InvalidDSN

#: What other libraries take as a parameter → what to write here.
_HINTS = {
    **dict.fromkeys(
        ("timeout", "busy_timeout", "_busy_timeout"),
        "leave it out: a writer that finds the file locked waits for up to 30 seconds.",
    ),
    **dict.fromkeys(
        ("mode", "cache", "check_same_thread", "isolation_level", "journal_mode", "_journal_mode"),
        "leave it out: the file is opened for reading and writing, by all threads, in WAL mode.",
    ),
    **dict.fromkeys(("_synchronous", "_sync", "fsync"), "write synchronous=FULL."),
}


def parse_file_dsn(conn_string: str) -> tuple[Path, str]:
    """Return the absolute path and the ``synchronous`` level of ``sqlite://path?synchronous=``.

    The path is what follows ``//``: ``sqlite:///tmp/q.db`` is absolute, ``sqlite://q.db``
    relative to the current directory. A ``?`` or ``%`` of its own is written %3F or %25.

    :raises InvalidDSN: no path, ``:memory:``, or an unknown parameter.
    """
    path, _, query = conn_string.partition("://")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    level = options.pop("synchronous", "NORMAL").upper()
    if options:
        name = next(iter(options))
        raise unknown_parameter(mask_password(conn_string), name, ("synchronous",), _HINTS)
    if level not in ("NORMAL", "FULL"):
        raise InvalidDSN(
            f"DSN {mask_password(conn_string)!r}: the one parameter is synchronous=NORMAL or "
            "synchronous=FULL."
        )
    path = unquote(path)
    if path.strip("/") in ("", ":memory:") or "\0" in path:
        raise InvalidDSN(
            f"DSN {mask_password(conn_string)!r} names no file; for queues in memory there is locmem://."
        )
    # Links are followed once, here: all names of one file must lead to one lock beside it.
    try:
        return Path(path).resolve(), level
    except OSError as err:
        where = f"DSN {mask_password(conn_string)!r}: {shorten(path)!r} cannot be followed"
        why = NO_DIRECTORY if not current_directory() else describe_error(err)
        raise InvalidDSN(f"{where}: {why}") from err

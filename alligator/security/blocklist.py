"""List the known functions that run code, or touch files, when called with JSON.

The list is best effort and never complete; an allowlist protects. See :mod:`alligator.security`.
"""

import sys
from functools import lru_cache

#: Modules, with all below them, whose functions run only if an allowlist names the module.
BLOCKED = frozenset(
    """
    os posix nt subprocess _posixsubprocess pty sys importlib imp _imp _frozen_importlib
    _frozen_importlib_external runpy code codeop pdb bdb timeit cProfile profile trace doctest
    unittest pydoc compileall py_compile zipimport zipapp pkgutil site venv ensurepip pip
    setuptools pkg_resources distutils sysconfig idlelib multiprocessing asyncio _thread signal
    _signal faulthandler atexit ctypes _ctypes cffi inspect antigravity webbrowser

    pickle _pickle pickletools marshal shelve dbm _dbm _gdbm copyreg dill cloudpickle joblib
    yaml jsonpickle

    shutil io _io _pyio pathlib posixpath ntpath genericpath tempfile fileinput codecs tokenize
    linecache glob zipfile tarfile gzip bz2 lzma mmap fcntl sqlite3 _sqlite3 mailbox netrc
    plistlib filecmp configparser urllib.request

    socket _socket ssl socketserver http ftplib poplib imaplib nntplib telnetlib smtpd xmlrpc
    wsgiref

    mailcap pipes readline rlcompleter logging tracemalloc lib2to3 optparse pstats tkinter turtle
    turtledemo xml uu wave aifc sunau chunk cgi cgitb gettext mimetypes zoneinfo test _testcapi
    _testinternalcapi _testmultiphase _testbuffer _testimportmultiple _xxsubinterpreters
    _xxtestfuzz _bootsubprocess _osx_support _aix_support resource threading gc syslog spwd nis
    termios tty curses getpass locale warnings _posixshmem _multiprocessing _ssl _tkinter

    IPython pytest _pytest pexpect ptyprocess plumbum paramiko sympy pygments werkzeug wrapt dotenv
    click django.core.management django.utils.module_loading alligator
    """.split()  # noqa: SIM905 - a list of a hundred quoted words is no easier to read
)

#: Functions of ``builtins`` that are harmless with any JSON.
HARMLESS = frozenset(
    """
    abs all any ascii bin chr divmod format hash hex len max min oct ord print repr round sorted
    sum
    """.split()  # noqa: SIM905
)

_OTHER_NAMES = {"posix": "os", "nt": "os"} | dict.fromkeys(
    ("posixpath", "ntpath", "genericpath"), "os.path"
)


def blocked_by(module: str, name: str) -> str | None:
    """Return the entry of the blocklist that covers a function; None: no entry does."""
    if module == "builtins":
        return None if name in HARMLESS else module
    parts = module.split(".")
    heads = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next((head for head in heads if head in BLOCKED), None)


@lru_cache(1024)
def known_as(module: str) -> tuple[str, ...]:
    """Return the names of a module: ``_operator`` is the part of ``operator`` in C."""
    plain = module.removeprefix("_")
    if module in _OTHER_NAMES:
        return module, _OTHER_NAMES[module]
    return (module, plain) if plain in sys.stdlib_module_names else (module,)

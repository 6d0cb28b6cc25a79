"""Run a worker of a Django project: ``manage.py latergator``."""

import argparse
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from alligator.cli.parser import add_worker_flags, worker_flags, worker_parser
from alligator.cli.start_worker import work
from alligator.common.text import shorten
from alligator.contrib.django.management import autoreload
from alligator.contrib.django.management.served_queues import served_queues
from alligator.exceptions import AlligatorException

#: Seconds that running tasks get to finish in: as a rule, and before a reload.
GRACE, GRACE_OF_RELOAD = 30.0, 5.0


class Command(BaseCommand):  # type: ignore[misc]
    """Consume the queues of one alias of ``settings.ALLIGATOR``."""

    help = (
        "Run a worker that consumes the queues of settings.ALLIGATOR. It ends on Ctrl-C and on "
        "SIGTERM, after the tasks that run."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_program = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as the program that this process is."""
        if len(argv) > 2 and not argv[2].startswith("-"):
            self.stderr.write(
                f"manage.py latergator runs a worker, and has no {shorten(argv[2], 60)!r}. The "
                "other commands are those of latergator.py, such as:\n"
                f"DJANGO_SETTINGS_MODULE={settings.SETTINGS_MODULE} latergator.py status "
                "--app alligator.contrib.django:gators"
            )
            sys.exit(2)
        self._is_program = True
        super().run_from_argv(argv)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags of ``latergator.py``, but for what settings.ALLIGATOR says."""
        add = parser.add_argument
        add("--alias", default="default", help="of settings.ALLIGATOR: 'default', if not given")
        add(
            "--queue",
            action="append",
            metavar="NAME",
            help="may be repeated: strict order; not given: QUEUES of settings.ALLIGATOR, and of "
            "TASKS",
        )
        add_worker_flags(parser, grace=None)
        add(
            "--autoreload",
            action="store_true",
            help="for development: start again when code changes, after the tasks that run "
            f"(--grace is {GRACE_OF_RELOAD:g} then, unless given)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker; exit with 1 if it did not end gracefully.

        :raises CommandError: it could not start.
        """
        if options["grace"] is None:
            options["grace"] = GRACE_OF_RELOAD if options["autoreload"] else GRACE
        alias = options["alias"]
        try:
            queues = options["queue"] or served_queues(alias)
            app = f"--app=alligator.contrib.django.command_line:{alias}"
            flags = [app, *worker_flags(options)]
            argv = [*flags, *(f"--queue={name}" for name in queues)]
            arguments = worker_parser().parse_args(argv)
            if self._is_program:  # none is carried into another process
                connections.close_all()
            if options["autoreload"]:
                code = autoreload.supervise(
                    arguments,
                    argv if options["queue"] else [*flags, f"--queues-of={alias}"],
                )
            else:
                code = work(arguments, argv, is_program=self._is_program)
        except (AlligatorException, NotImplementedError) as err:
            raise CommandError(shorten(str(err), 1000), returncode=2) from err
        if code:
            sys.exit(code)

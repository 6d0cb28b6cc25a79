"""Start a worker, or a supervisor with its workers, as the command line says."""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alligator.cli.source import gator_of, load
from alligator.common.log import log_as_json, worker_logger
from alligator.exceptions import InvalidTask, LeaveNow, NodeLost
from alligator.gator import Gator
from alligator.workers.container_init import stay_behind
from alligator.workers.fetcher import queue_names
from alligator.workers.isolation import CAN_START_WORKERS
from alligator.workers.signals import StopSignals
from alligator.workers.supervisor import Supervisor, stop_when_abandoned
from alligator.workers.worker import Worker

if TYPE_CHECKING:
    from alligator.contrib.prometheus.exporter import Exporter


def work(arguments: argparse.Namespace, argv: list[str], *, is_program: bool) -> int:
    if os.getpid() == 1 and (code := stay_behind()) is not None:
        return code
    if arguments.processes is not None and not CAN_START_WORKERS:
        raise InvalidTask(
            "--processes is not supported on this system, which cannot pass descriptors to other "
            "processes; start as many workers as you need instead, each without --processes."
        )
    signals = StopSignals()
    if arguments.log_format == "json":
        log_as_json()
    try:
        with signals.around(to_the_end=is_program), _metrics(arguments) as exporter:
            worker = _worker(arguments)
            if exporter is not None:
                exporter.measure(worker.gator, worker.log)
            if arguments.processes is not None and arguments.leash is None:
                worker.gator.close()
                return _supervise(arguments, argv, signals)
            if arguments.leash is not None:
                stop_when_abandoned(arguments.leash)
            worker.owns_process = True
            worker.hides_results = arguments.hide_results
            worker.command_line, worker.given = argv, arguments.isolated
            if type(worker).run_forever is Worker.run_forever:
                worker.process_signals = signals
            else:
                signals.put_back()  # it may handle them itself
            return int(worker.run_forever() or 0)
    except (KeyboardInterrupt, LeaveNow):
        if not signals.count:
            raise
        return 1 if signals.count > 1 else 0  # told to stop before it reserved anything


@contextmanager
def _metrics(arguments: argparse.Namespace) -> Iterator["Exporter | None"]:
    """Serve metrics for as long as the block runs, if the command line says so.

    A process of a supervisor, or for a single task, writes its own for the one that serves.
    """
    if arguments.metrics_port is None:
        if arguments.metrics_host is not None:
            raise InvalidTask("--metrics-host needs --metrics-port.")
        yield None
        return
    from alligator.contrib.prometheus import exporter  # what it needs is an extra

    if arguments.leash is not None:
        exporter.write_metrics()
        yield None
        return
    with exporter.Exporter(arguments.metrics_host or "127.0.0.1", arguments.metrics_port) as made:
        made.share()
        if arguments.processes is None:
            exporter.write_metrics()
        yield made


def _worker(arguments: argparse.Namespace) -> Worker:
    gator = gator_of(arguments)
    if arguments.metrics_port is not None:
        from alligator.contrib.prometheus.exporter import count_tasks

        count_tasks(gator)
    worker_class = load(arguments.worker, Worker, "--worker") if arguments.worker else Worker
    worker: Worker = worker_class(gator, **_worker_options(arguments))
    if arguments.leash is None:
        _check_reach(gator, queue_names(worker))  # report a lost server now, in one line
        if gator.store is not None and gator.store is not gator.client.store:
            gator.store.last_seen(gator.queue_name)  # the same for the store
    return worker


def check_start(arguments: argparse.Namespace) -> None:
    """Make the worker that a command line describes, and close it again.

    :raises AlligatorException: it cannot start.
    """
    _worker(arguments).gator.close()


def _check_reach(gator: Gator, names: Sequence[str]) -> None:
    """Ask for the first of these queues; if only its node is lost, for the next."""
    for name in names[:-1]:
        try:
            gator.client.len(name)
        except NodeLost:
            continue
        return
    gator.client.len(names[-1])


def _worker_options(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"log_level": getattr(logging, arguments.log_level)}
    given = {
        "max_tasks": arguments.max_tasks or None,
        "to_consume": arguments.queue if len(arguments.queue or ()) > 1 else None,
        "nap_time": arguments.nap,
        "concurrency": arguments.concurrency,
        "lease": arguments.lease,
        "prefetch": arguments.prefetch,
        "grace": arguments.grace,
        "burst": arguments.burst or None,
    }
    # Only what was given, so that a Worker class written for 1.0 still fits.
    options.update({name: value for name, value in given.items() if value is not None})
    return options


def _supervise(arguments: argparse.Namespace, argv: list[str], signals: StopSignals) -> int:
    supervisor = Supervisor(
        argv,
        arguments.processes,
        grace=arguments.grace,
        log=worker_logger(arguments.log_level),
        replace_finished=bool(arguments.max_tasks) and not arguments.burst,
        signals=signals,
    )
    return supervisor.run()

"""Start ``benchmarks.subprocess_server`` for a library, and call it."""

import json
import subprocess
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from benchmarks.errors import NotMeasured

#: Seconds that one call may take.
PATIENCE = 600.0


class SubprocessClient:
    """Start a server; call it by ``client("enqueue", 100)``.

    :param python: the interpreter of the library's environment.
    :param folder: the folder of the adapter, below ``benchmarks/libraries``.
    :param log: the file for the server's standard error.
    :raises NotMeasured: it did not start.
    """

    def __init__(self, python: Path, folder: str, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        argv = [str(python), "-m", "benchmarks.subprocess_server", folder]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=log.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.about: dict[str, Any] = self._answer()

    def __call__(self, call: str, *args: Any) -> Any:
        """Call a method of the server, and return its answer."""
        return self.begin(call, *args)()

    def begin(self, call: str, *args: Any) -> Callable[[], Any]:
        """Call a method of the server; the function returned waits for the answer."""
        assert self._process.stdin is not None
        print(json.dumps({"call": call, "args": args}), file=self._process.stdin, flush=True)
        return self._answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not wait([self._process.stdout], PATIENCE):
            raise NotMeasured(f"the producer said nothing for {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            lines = self._log.read_text(errors="replace").splitlines() or ["it said nothing"]
            raise NotMeasured(f"the producer ended: {lines[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise NotMeasured(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

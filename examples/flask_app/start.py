"""Start the web server and one worker, and stop both on Ctrl-C: ``python start.py``.

This is for development. In production a WSGI server serves ``thumbnails:create_app()``, and the
workers run by themselves: ``latergator.py --app thumbnails.tasks:gator``.
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from thumbnails import create_app
from werkzeug.serving import make_server


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code of the worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=5000, help="5000; 0: any that is free")
    server = make_server("127.0.0.1", parser.parse_args().port, create_app(), threaded=True)
    worker = subprocess.Popen(
        [sys.executable, "-m", "alligator", "--app", "thumbnails.tasks:gator", "--concurrency=2"],
        cwd=Path(__file__).resolve().parent,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Open http://127.0.0.1:{server.port}/ (Ctrl-C ends)", flush=True)
    try:
        server.serve_forever()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        worker.terminate()  # it finishes the picture that it is at
        worker.wait()
    return worker.returncode


if __name__ == "__main__":
    sys.exit(main())

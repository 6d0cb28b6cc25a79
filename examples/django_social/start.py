"""Start all of it, and stop it on Ctrl-C: ``python start.py``. This is for development.

In production a WSGI server serves ``mysite.wsgi``, and the workers run by themselves:
``manage.py latergator --processes 4``.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import django
from django.core.management import call_command

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code of the worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="8000; 0: any that is free")
    port = parser.parse_args().port or free_port()
    os.environ["SOCIAL_SMTP_PORT"] = str(free_port())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    django.setup()
    print("Making the tables and the users …", flush=True)
    call_command("migrate", verbosity=0)
    call_command("add_users")

    from django.conf import settings
    from mail_server import MailServer

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with MailServer(settings.EMAIL_PORT, settings.FOLDER / "mailbox"):
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "latergator", "--concurrency=4"], cwd=FOLDER
        )
        try:
            print(f"Open http://127.0.0.1:{port}/ (Ctrl-C ends)", flush=True)
            call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            worker.terminate()  # it finishes the mails that it is at
            worker.wait()
    return worker.returncode


def free_port() -> int:
    """Return a port that no other program listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())

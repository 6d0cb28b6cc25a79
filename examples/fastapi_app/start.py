"""Start the web server with a worker inside, for development: ``python start.py``."""

import argparse
import os

import uvicorn


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="8000; 0: any that is free")
    port = parser.parse_args().port
    os.environ.setdefault("PRIMES_WORKER", "1")
    # Without a limit the server would wait at its end for each browser that follows a task.
    uvicorn.run("primes.api:app", port=port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()

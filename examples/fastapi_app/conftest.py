"""Keep what the tests make out of the folder of the application, and run a worker meanwhile."""

import os
import tempfile

os.environ["PRIMES_FOLDER"] = tempfile.mkdtemp(prefix="primes-")
os.environ["PRIMES_WORKER"] = "1"

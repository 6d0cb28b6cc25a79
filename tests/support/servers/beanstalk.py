"""Start a beanstalkd, with or without a binlog."""

from pathlib import Path

from tests.support.servers.process import Server, accepts, free_port, need


class Beanstalkd(Server):
    """``binlog`` keeps the jobs in the folder; ``size`` is the largest job."""

    def __init__(self, folder: Path, *, binlog: bool = False, size: int = 65535) -> None:
        self.port = free_port()
        argv = [need("beanstalkd"), "-l", "127.0.0.1", "-p", str(self.port), "-z", str(size)]
        if binlog:
            argv += ["-b", str(folder), "-f", "0"]
        super().__init__("beanstalk", argv, lambda: accepts(self.port), folder)

    @property
    def dsn(self) -> str:
        """Where it is."""
        return f"beanstalk://127.0.0.1:{self.port}/"

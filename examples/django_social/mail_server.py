"""A mail server for development: real SMTP, and what it takes becomes files in a folder."""

import itertools
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """Listens on this machine while its ``with`` block runs.

    :param folder: gets a file for each mail, such as ``bob@example.com-1.eml``.
    """

    def __init__(self, port: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._numbers = folder, itertools.count(1)
        self._seen: set[str] = set()
        self._controller = Controller(self, hostname="127.0.0.1", port=port)

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Refuse ``gone@…`` always, and ``busy@…`` the first time."""
        name = address.partition("@")[0]
        if name == "gone":
            return "550 No such user here"
        if name == "busy" and address not in self._seen:
            self._seen.add(address)
            return "450 Try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail for each of its recipients."""
        for address in envelope.rcpt_tos:
            name = address.replace("/", "_")
            (self._folder / f"{name}-{next(self._numbers)}.eml").write_bytes(envelope.content)
        return "250 OK"

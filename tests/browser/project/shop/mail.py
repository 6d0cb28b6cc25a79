"""Send mail to customers."""

import smtplib
import time


def send_receipt(order, address):
    """Send the receipt of an order."""
    time.sleep(0.31)
    if order % 100 == 7:
        raise smtplib.SMTPRecipientsRefused({address: (550, b"No such mailbox")})
    if order % 100 == 13:
        _connect("smtp.shop.example")
    time.sleep(0.14 + order % 9 / 40)


def send_newsletter(issue, address):
    """Send one copy of the newsletter."""
    time.sleep(0.21)


def remind(order, days=3):
    """Remind of an order that was not paid."""
    time.sleep(0.12)


def _connect(host):
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError as err:
        raise smtplib.SMTPServerDisconnected(f"{host}: please run connect() first") from err

"""What workers run."""

from collections.abc import Iterable
from datetime import date, timedelta
from smtplib import SMTPRecipientsRefused

from django.contrib.auth.models import User
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from alligator.contrib.django import gators
from social.models import Mail, Post


class AddressRefused(Exception):
    """The mail server says that there is no such address."""


#: A server that is down or busy may take the mail later; another try helps no wrong address.
OPTIONS_OF_MAIL = {
    "retries": 8,
    "retry_delay": 1,
    "retry_backoff": 3,  # 1 s, 3 s, 9 s … 36 minutes
    "timeout": 60,
    "give_up_on": [AddressRefused],
}


@transaction.atomic
def queue(mails: Iterable[Mail]) -> None:
    """Push one task for each mail: in bulk, and once the transaction around it is committed."""
    mails = list(mails)
    with gators["default"].batch(**OPTIONS_OF_MAIL) as batch:
        for mail in mails:
            mail.task_id = batch.task(send, mail.pk).task_id
    Mail.objects.bulk_update(mails, ["task_id"])


def send(mail_id: int) -> None:
    """Send one mail. A task may run twice, if its worker dies; a mail that was sent stays sent."""
    mail = Mail.objects.select_related("recipient").get(pk=mail_id)
    if mail.sent is not None:
        return
    address = mail.recipient.email
    try:
        send_mail(mail.subject, mail.text, None, [address])
    except SMTPRecipientsRefused as err:
        code, reason = err.recipients[address]
        if code < 500:
            raise  # it may take the mail later
        raise AddressRefused(f"{code} {reason.decode(errors='replace')}") from err
    mail.sent = timezone.now()
    mail.save(update_fields=["sent"])


def write_digests(day: str = "") -> int:
    """Write a mail to each user about the posts of a day, and queue them; return how many.

    :param day: such as ``'2026-11-24'``; empty: yesterday.
    """
    about = date.fromisoformat(day) if day else timezone.localdate() - timedelta(days=1)
    return sum(write_digest(each, about) for each in User.objects.iterator())


@transaction.atomic
def write_digest(user: User, about: date) -> bool:
    """Write and queue the digest of a user, unless there is one, or nothing to tell."""
    posts = Post.objects.filter(created__date=about, author__followers__follower=user)
    lines = [str(each) for each in posts.select_related("author").order_by("created")]
    if not lines:
        return False
    content = {"subject": f"Posts of {about}", "text": "\n".join(lines)}
    mail, is_new = Mail.objects.get_or_create(recipient=user, digest_of=about, defaults=content)
    if is_new:
        queue([mail])
    return is_new


def queue_missed() -> int:
    """Queue mails again that the queue does not know, since it was unreachable; return how many."""
    now = timezone.now()
    created = now - timedelta(days=7), now - timedelta(minutes=10)
    mails = Mail.objects.filter(sent=None, created__range=created)
    missed = [each for each in mails if gators["default"].status(each.task_id) is None]
    queue(missed)
    return len(missed)

"""Write a post, and queue its mails."""

from django.contrib.auth.models import User
from django.db import transaction

from social.models import Mail, Post
from social.tasks import queue


@transaction.atomic
def publish(author: User, text: str) -> Post:
    """Keep a post, and the mails to all followers: all of it, or nothing."""
    post = Post.objects.create(author=author, text=text)
    subject = f"A new post by {author}"
    followers = author.followers.select_related("follower")
    queue(
        Mail.objects.bulk_create(
            Mail(recipient=each.follower, post=post, subject=subject, text=text)
            for each in followers
        )
    )
    return post

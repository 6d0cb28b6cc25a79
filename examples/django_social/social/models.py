"""Who follows whom, what they post, and the mails about it."""

from django.conf import settings
from django.db import models


class Follow(models.Model):
    """One user follows another."""

    follower = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="follows")
    followed = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="followers")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["follower", "followed"], name="once"),)


class Post(models.Model):
    """What a user tells the followers."""

    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="posts")
    text = models.TextField()
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.author}: {self.text[:60]}"


class Mail(models.Model):
    """A mail that is to be sent, or was: about a post, or the digest of a day."""

    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="mails")
    post = models.ForeignKey(Post, models.CASCADE, related_name="mails", null=True)
    digest_of = models.DateField(null=True)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    created = models.DateTimeField(auto_now_add=True)
    task_id = models.CharField(max_length=100, default="")
    sent = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["recipient", "digest_of"], name="one_digest_a_day"),
        )

    def __str__(self) -> str:
        return f"{self.subject}, to {self.recipient}"

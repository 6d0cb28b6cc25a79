"""The pages."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, WAITING
from alligator.contrib.django import gators
from social.models import Follow, Mail, Post
from social.posts import publish

#: Mails of which a page tells more; a post may have thousands.
SHOWN = 50

_WORDS = {WAITING: "waiting", DELAYED: "delayed", RETRYING: "to be tried again", RUNNING: "running"}


@login_required
def feed(request: HttpRequest) -> HttpResponse:
    """Show what the followed users post, and take a post."""
    text = request.POST.get("text", "").strip()
    if text:
        return redirect("post", publish(request.user, text).pk)
    is_shown = Q(author=request.user) | Q(author__followers__follower=request.user)
    posts = Post.objects.filter(is_shown).distinct().select_related("author").order_by("-created")
    followed = set(request.user.follows.values_list("followed", flat=True))
    people = User.objects.exclude(pk=request.user.pk).order_by("username")
    return render(
        request, "social/feed.html", {"posts": posts[:50], "people": people, "followed": followed}
    )


@login_required
@require_POST
def follow(request: HttpRequest, name: str) -> HttpResponse:
    """Follow a user, or end that."""
    followed = get_object_or_404(User, username=name)
    found, is_new = Follow.objects.get_or_create(follower=request.user, followed=followed)
    if not is_new:
        found.delete()
    return redirect("feed")


@login_required
def mails_of_post(request: HttpRequest, post_id: int) -> HttpResponse:
    """Show the author who was mailed, how far that is, and what failed."""
    post = get_object_or_404(Post, pk=post_id, author=request.user)
    counts = post.mails.aggregate(total=Count("pk"), sent=Count("sent"))
    unsent = post.mails.filter(sent=None).select_related("recipient")[:SHOWN]
    rows = [row_of(each) for each in unsent]
    return render(
        request,
        "social/post.html",
        {
            **counts,
            "post": post,
            "unsent": rows,
            "sent_mails": post.mails.exclude(sent=None).select_related("recipient")[:SHOWN],
            "is_at_work": any(not each["has_failed"] for each in rows),
        },
    )


def row_of(mail: Mail) -> dict[str, Any]:
    """Return what the queue knows of a mail that was not sent yet."""
    info = gators["default"].task_info(mail.task_id)
    return {
        "recipient": mail.recipient,
        "text": info.error or _WORDS.get(info.status, info.explanation),
        "has_failed": info.status in (FAILED, CANCELED),
    }

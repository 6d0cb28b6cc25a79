"""The models of the tutorial's application."""

from django.contrib.auth.models import User
from django.db import models


class Post(models.Model):
    message = models.TextField()


class Follow(models.Model):
    user = models.ForeignKey(User, models.CASCADE, related_name="followers")
    email = models.EmailField()

"""The one URL that the tutorial redirects to."""

from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("feed/", lambda request: HttpResponse("feed"), name="activity_feed")]

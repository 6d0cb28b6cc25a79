"""The URLs."""

from django.contrib import admin
from django.urls import include, path
from social import views

urlpatterns = [
    path("", views.feed, name="feed"),
    path("posts/<int:post_id>/", views.mails_of_post, name="post"),
    path("follow/<str:name>/", views.follow, name="follow"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),  # with the dashboard of Alligator
]

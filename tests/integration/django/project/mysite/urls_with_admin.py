"""Two sites of the admin: the default one below a path of each language, and another one."""

from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.urls import path

from alligator.contrib.django.admin import DashboardAdmin
from alligator.contrib.django.models import Dashboard

staff = admin.AdminSite("staff")
staff.site_header = "The <b>staff</b>"
staff.register(Dashboard, DashboardAdmin)

urlpatterns = [
    path("staff/", staff.urls),
    *i18n_patterns(path("back office/é/", admin.site.urls), prefix_default_language=False),
]

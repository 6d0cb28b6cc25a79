"""What the admin shows beside the dashboard of Alligator."""

from django.contrib import admin

from social.models import Mail, Post

admin.site.register(Post)


@admin.register(Mail)
class MailAdmin(admin.ModelAdmin):
    """The mails, the newest first."""

    list_display = ("subject", "recipient", "created", "sent")
    list_filter = ("sent",)
    ordering = ("-pk",)

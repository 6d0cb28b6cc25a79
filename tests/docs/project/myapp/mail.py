"""Stands in for the reader's own code."""

sent = []


def send_post_email(user_id, post_id):
    sent.append(("post", user_id, post_id))


def send_welcome_email(user_id):
    sent.append(("welcome", user_id))


def send_mass_mail(list_id):
    sent.append(("mass", list_id))


def update_follow_counts(user_id):
    sent.append(("counts", user_id))

"""Test that text from messages and errors is made safe for a log."""

from alligator.common.text import describe_error, shorten


def test_text_from_messages_is_made_fit_for_a_log():
    assert shorten("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert len(shorten("x" * 1000)) == 120
    assert describe_error(ValueError("a\nb")) == "ValueError: a\\nb"

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe_error(Mute()).startswith("Mute")

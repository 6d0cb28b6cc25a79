"""Define the commands of ``manage.py``, one in a file, as Django finds them."""

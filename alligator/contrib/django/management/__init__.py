"""Run workers from ``manage.py``.

Imports: everything, ``alligator.cli`` included: this is a command line, too.
"""

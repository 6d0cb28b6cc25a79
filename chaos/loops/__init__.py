"""Break one thing a module; each has ``BACKENDS``, ``FULL`` and ``run``.

``run(environment, size)`` returns a ``Row``. ``size`` is the number of faults. ``FULL`` is the size
for ``make chaos``, one for all backends or by backend. ``SMALL``, if there is one, is the size for
the tests; 0 if even one fault takes too long for them.
"""

"""One kind of fault a module, each with ``BACKENDS``, ``FULL`` and ``run``.

``run(environment, size)`` returns a ``Row``. ``size`` is the number of faults; ``FULL`` is that of
``make chaos``, one for all or by backend. ``SMALL``, if there is one, is that of the tests; 0 where
even one fault takes too long for them.
"""

"""One kind of fault a module, each with ``BACKENDS``, ``FULL`` and ``run(place, size) -> Row``.

``size`` is the number of faults; ``FULL`` is that of ``make chaos``, one for all or by backend.
"""

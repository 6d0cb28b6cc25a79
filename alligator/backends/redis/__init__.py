"""Keep queues and a store on a Redis or Valkey server, a sentinel set, or a cluster.

``client`` is the contract of queues and ``store`` that of records. Both run Lua scripts
(``lua/*.lua``, joined by ``scripts``) over ``connection``, or ``cluster``. Imports: redis-py, the
shared files of ``alligator.backends``, and the packages below them. Exports: nothing here;
``alligator.backends.redis_backend`` exports ``Client``.
"""

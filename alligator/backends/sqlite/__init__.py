"""Keep queues and a store in one SQLite file, which processes of one machine share.

``client`` and ``store`` keep the contracts; ``queue``, ``dependencies`` and ``records`` are their
SQL, ``schema`` the tables, ``transaction`` what one writes,
``database`` the file that is open, with its locks.

Imports: ``alligator.backends.{base,store,types,dsn}`` and below. Exports: nothing here;
``alligator.backends.sqlite_backend`` exports ``Client``.
"""

"""SQLite as a database backend that knows when its connection is lost, as servers' backends do."""

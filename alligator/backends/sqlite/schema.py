"""Create the tables of a SQLite queue file."""

import sqlite3

#: The state of a task that a limit or a rate keeps back. Below 0, so that a worker of Alligator 1.1
#: takes it for none of its own.
KEPT = -4

#: Names have a prefix, since the file may be that of an application. Large columns come last,
#: so that looking at the others does not read through them.
SCHEMA = """
CREATE TABLE IF NOT EXISTS alligator_tasks (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task_id TEXT NOT NULL,
    state INTEGER NOT NULL,         -- WAITING 0, DELAYED 3, RUNNING 6, HELD 7, KEPT -4
    priority INTEGER NOT NULL,
    place INTEGER NOT NULL,         -- order among its like; negative: a delay that ended
    due REAL NOT NULL,              -- 0: now
    pushed_at REAL NOT NULL,
    ticket INTEGER NOT NULL DEFAULT 0,  -- of the lease; 0: not on lease
    attempt INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,  -- on a lease one less, if its holder is being stopped
    lease_ends REAL NOT NULL DEFAULT 0,
    next_due REAL,                  -- pushed under this id while it ran
    next_priority INTEGER,
    controls TEXT,                  -- see backends/task_controls.py; NULL: none
    next_controls TEXT,             -- of what was pushed under this id while it ran
    unique_key TEXT,                -- see with_key() in queue.py
    key_since REAL,                 -- when that key, or next_key, was taken
    key_attempt INTEGER,            -- it is free after this attempt began; NULL: when it ends
    next_key TEXT,                  -- the key of what was pushed under this id while it ran
    limit_key TEXT,                 -- of its controls, if they have a limit
    line TEXT,                      -- KEPT: what keeps it back
    next_data,
    data NOT NULL,
    UNIQUE (queue, task_id)
);
CREATE INDEX IF NOT EXISTS alligator_ready
    ON alligator_tasks (queue, priority DESC, place) WHERE state = 0;
CREATE INDEX IF NOT EXISTS alligator_due ON alligator_tasks (queue, due) WHERE state = 3;
CREATE INDEX IF NOT EXISTS alligator_leased ON alligator_tasks (queue, lease_ends) WHERE state = 6;
CREATE INDEX IF NOT EXISTS alligator_behind
    ON alligator_tasks (queue) WHERE next_data IS NOT NULL;
CREATE TABLE IF NOT EXISTS alligator_waits (
    queue TEXT NOT NULL,            -- of the parent
    parent TEXT NOT NULL,
    child INTEGER NOT NULL,         -- a held row of alligator_tasks
    PRIMARY KEY (queue, parent, child)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alligator_waiting ON alligator_waits (child);
CREATE TABLE IF NOT EXISTS alligator_dead (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task_id TEXT NOT NULL,
    died_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    error TEXT NOT NULL,
    traceback TEXT NOT NULL,
    controls TEXT,
    data NOT NULL,
    UNIQUE (queue, task_id)
);
CREATE INDEX IF NOT EXISTS alligator_newest ON alligator_dead (queue);
CREATE TABLE IF NOT EXISTS alligator_overruled (
    queue TEXT NOT NULL,            -- of a dead letter whose id was pushed again since
    task_id TEXT NOT NULL,
    died_at REAL NOT NULL,          -- tells that letter from a later one
    PRIMARY KEY (queue, task_id)
) WITHOUT ROWID;
-- How many tasks of a queue are in a state: counting rows takes 20 ms in a million.
-- Triggers would keep it as well, at the price of 40 percent of the speed.
CREATE TABLE IF NOT EXISTS alligator_counters (
    queue TEXT NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) WITHOUT ROWID;
INSERT OR IGNORE INTO alligator_counters VALUES ('', -1, 0);  -- the last ticket given out
INSERT OR IGNORE INTO alligator_counters VALUES ('', -2, 0);  -- how often a record was noted
INSERT OR IGNORE INTO alligator_counters VALUES ('', -3, random());  -- of no other file
CREATE TABLE IF NOT EXISTS alligator_emptied (
    queue TEXT PRIMARY KEY,
    ticket INTEGER NOT NULL         -- when it was last emptied; later pushes have higher ones
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alligator_paused (
    queue TEXT PRIMARY KEY, until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alligator_records (
    id INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,   -- the key: see store.record_key
    ends REAL NOT NULL,
    state INTEGER NOT NULL,
    pushed REAL NOT NULL,
    attempt INTEGER NOT NULL,
    at REAL NOT NULL,
    place TEXT NOT NULL,            -- its id on a queue elsewhere
    error TEXT NOT NULL,
    traceback TEXT NOT NULL,
    result TEXT
);
CREATE INDEX IF NOT EXISTS alligator_records_end ON alligator_records (ends);
CREATE TABLE IF NOT EXISTS alligator_marks (
    key TEXT PRIMARY KEY, ends REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alligator_marks_end ON alligator_marks (ends);
CREATE TABLE IF NOT EXISTS alligator_workers (
    queue TEXT NOT NULL, name TEXT NOT NULL, seen REAL NOT NULL, ends REAL NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alligator_live (
    name TEXT PRIMARY KEY, seen REAL NOT NULL, ends REAL NOT NULL, view TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS alligator_activity (
    minute INTEGER NOT NULL, queue TEXT NOT NULL, function TEXT NOT NULL,
    numbers TEXT NOT NULL,          -- as JSON
    PRIMARY KEY (minute, queue, function)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alligator_recent (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, task TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS alligator_documents (
    key TEXT PRIMARY KEY, ends REAL NOT NULL, document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS alligator_documents_end ON alligator_documents (ends);
"""

#: Columns that files of earlier versions lack.
_LATER_COLUMNS = (
    ("alligator_tasks", "controls", "TEXT"),
    ("alligator_tasks", "next_controls", "TEXT"),
    ("alligator_tasks", "unique_key", "TEXT"),
    ("alligator_tasks", "key_since", "REAL"),
    ("alligator_tasks", "key_attempt", "INTEGER"),
    ("alligator_tasks", "next_key", "TEXT"),
    ("alligator_tasks", "limit_key", "TEXT"),
    ("alligator_tasks", "line", "TEXT"),
    ("alligator_dead", "controls", "TEXT"),
    ("alligator_waits", "unconditional", "INTEGER NOT NULL DEFAULT 0"),
)

#: What needs these columns.
_LATER_SCHEMA = """
CREATE INDEX IF NOT EXISTS alligator_unique
    ON alligator_tasks (queue, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS alligator_next_unique
    ON alligator_tasks (queue, next_key) WHERE next_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS alligator_limited
    ON alligator_tasks (queue, limit_key) WHERE state = 6 AND limit_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS alligator_lines
    ON alligator_tasks (queue, line, priority DESC, place) WHERE state = -4;
CREATE INDEX IF NOT EXISTS alligator_kept
    ON alligator_tasks (queue, priority DESC, place) WHERE state = -4;
CREATE TABLE IF NOT EXISTS alligator_rates (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    arrival REAL NOT NULL,          -- see next_start() in backends/task_controls.py
    turn REAL,                      -- when the first task of its line may go; NULL: none is kept
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alligator_turns ON alligator_rates (queue, turn) WHERE turn IS NOT NULL;
"""


def make_tables(connection: sqlite3.Connection) -> None:
    """Create what a queue file lacks, be it new or of an earlier version."""
    connection.executescript(SCHEMA)
    for table, column, kind in _LATER_COLUMNS:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        if all(each[1] != column for each in columns):
            try:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            except sqlite3.OperationalError as err:
                if "duplicate column" not in str(err):  # another process has just added it
                    raise
    connection.executescript(_LATER_SCHEMA)

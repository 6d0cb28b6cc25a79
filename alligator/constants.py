"""Define the states of a task, and the queue that is used when none is given."""

from typing import Final

# States of a task. 0 to 5 are the numbers that Alligator 0.x and 1.0 documented.
WAITING: Final = 0
SUCCESS: Final = 1
FAILED: Final = 2
DELAYED: Final = 3
RETRYING: Final = 4
CANCELED: Final = 5
RUNNING: Final = 6
#: To ask a queue for the tasks that wait for others. They have the status ``WAITING``.
HELD: Final = 7

#: The queue that tasks go to when the Gator names no other.
ALL: Final = "all"

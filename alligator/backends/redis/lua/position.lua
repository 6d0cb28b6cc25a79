#!lua
-- idempotent
-- include: queue
-- Returns: how far the history of the queue has come
return position()

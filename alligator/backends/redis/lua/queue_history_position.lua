#!lua
-- idempotent
-- include: states
-- Returns: how far the history of the queue has come
return position()

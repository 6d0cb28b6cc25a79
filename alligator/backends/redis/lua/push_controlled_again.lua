#!lua
-- Push again after the reply got lost.
-- include: push_again
-- ARGV: as for push_controlled
-- Returns: see push_all()
return push_again(5)

#!lua
-- Push again after the reply got lost.
-- include: push_again
-- ARGV: as for push_controlled
-- Returns: the position
return push_again(5)

#!lua
-- include: push_arguments dependencies
-- ARGV: see begin_pushes() and push_all()
-- Returns: the position
return push_all()

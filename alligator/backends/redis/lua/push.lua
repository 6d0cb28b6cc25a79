#!lua
-- include: pushes dependencies
-- ARGV: see begin_pushes() and push_all()
-- Returns: the position
return push_all()

#!lua
-- Push messages some of which have controls.
-- include: push_arguments dependencies
-- ARGV: see begin_pushes() and push_all(), with five values
-- Returns: see push_all()
return push_all(5)

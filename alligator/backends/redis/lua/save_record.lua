#!lua flags=allow-oom
-- idempotent
-- include: records
-- KEYS: 1 the record
-- ARGV: 1 when it was pushed  2 attempt  3 the record  4 milliseconds to keep it  5 channel
-- Returns: 1, or 0 if the record of a later run stands
return save_record(KEYS[1], unpack(ARGV))

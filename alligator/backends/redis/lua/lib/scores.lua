-- The scores of READY say which task goes first. Each is a position (the counter SEQ), and 2^45
-- for each priority below the highest, so that 201 priorities stay below 2^53. Positions of due
-- tasks stay below 2^44 there; all others get TAIL on top.
local STEP = 35184372088832
local TAIL = 17592186044416

-- Places in line, which are the scores of READY: 2^45 for each priority, so that 201 priorities
-- stay below 2^53. Due tasks stand below 2^44 there, all others above.
local STEP = 35184372088832
local TAIL = 17592186044416

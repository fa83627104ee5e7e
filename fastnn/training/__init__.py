"""Floor 4: the planner, the fit loop, callbacks and history."""

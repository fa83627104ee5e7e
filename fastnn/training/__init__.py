"""Floor 4: the planner, passes over the data, the fit loop, progress and history."""

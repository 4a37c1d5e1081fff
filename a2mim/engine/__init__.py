"""Running: launch, loops, hooks, checkpoints, optimisers, schedules."""

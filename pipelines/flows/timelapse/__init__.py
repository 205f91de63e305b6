"""The time-lapse: months of production in minutes, on the real service, log and steps; only the clock is simulated."""

"""Surroundings of a job: log, device, code hash, terminal, and the warm parent that forks it."""

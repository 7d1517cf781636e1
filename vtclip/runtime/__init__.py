"""How a job runs: the warm parent that local jobs are forked from."""

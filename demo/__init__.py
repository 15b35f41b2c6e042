"""A release on a real cluster, to look at: `make demo`."""

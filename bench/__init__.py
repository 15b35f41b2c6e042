"""Measurements: what the tool costs over the same Helm upgrades typed by hand. `make bench`; nothing is asserted."""

"""Trying things out: trials of the whole lab under faults; backtests and sweeps are to come."""

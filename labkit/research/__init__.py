"""Looking back and forward with the same decision code: backtests, sweeps, statistics."""

"""Talking to an exchange: the client, its circuit breaker, its limits, the user-data stream."""

"""Weather: faults on demand. Named, scripted, seeded; the same seed gives the same weather, on sockets and off."""

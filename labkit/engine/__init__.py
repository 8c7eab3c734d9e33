"""What runs: Engine.apply, the controllers and loops around it, recovery and the hosts."""

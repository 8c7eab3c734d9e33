"""Being an exchange: the embedded paper venue, its market and its account. It can place no real order."""

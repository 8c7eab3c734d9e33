"""What is kept: an append-only, hash-chained journal in SQLite, and the lock that gives it one owner."""

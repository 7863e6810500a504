"""Health of accounts and cells, and how much may be ordered there at the same time."""

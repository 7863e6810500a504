"""Health of accounts and cells, and how much may be ordered from them at once."""

"""What is particular to SQLite; all else is in the suite that holds for every store."""

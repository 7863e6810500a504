"""Tests of SQLite alone. The conformance suite tests what all stores have in common."""

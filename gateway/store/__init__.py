"""Stores jobs: one protocol, implemented with Redis for several replicas and with SQLite for one process.

Only this package imports redis and sqlite3.
"""

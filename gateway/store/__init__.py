"""Where jobs live: one protocol, kept by Redis for replicas and by SQLite for one node. The only redis and sqlite3."""

"""Reports of the ledger: what was spent, by team, API key, seller, model, cell, day or hour."""

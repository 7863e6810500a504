"""Everything that leaves for sellers and picture stores: the gateway's only HTTP client, and what restrains it."""

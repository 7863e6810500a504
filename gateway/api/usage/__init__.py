"""The API of spend: what teams used, and for admins the entries that no team pays."""

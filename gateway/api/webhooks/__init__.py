"""The API of webhooks: the delivery log of a team, another delivery, and a test."""

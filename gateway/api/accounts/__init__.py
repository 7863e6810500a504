"""The API of accounts at sellers."""

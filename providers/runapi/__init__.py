"""The adapter for RunAPI."""

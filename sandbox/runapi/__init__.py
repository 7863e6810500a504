"""A simulated RunAPI."""

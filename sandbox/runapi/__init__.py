"""The simulated RunAPI."""

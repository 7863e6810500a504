"""A simulated Runflow."""

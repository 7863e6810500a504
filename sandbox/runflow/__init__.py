"""The simulated Runflow."""

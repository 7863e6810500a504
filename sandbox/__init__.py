"""Simulated vendors over real HTTP. Imports neither `gateway` nor `providers`, so that it cannot share their bugs."""

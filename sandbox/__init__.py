"""The vendors, simulated over real HTTP. Imports neither `gateway` nor `providers`, nor shares their mistakes."""

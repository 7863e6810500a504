"""Routing: pure functions that turn a request, a catalogue and signals into a plan with reasons."""

"""Who is to sell what a team asks: pure functions from a request, a catalogue and signals to a plan with reasons."""

"""Operator configuration: parses YAML with line numbers, validates it strictly and resolves it into a catalogue."""

"""The operators' YAML: read with its line numbers, checked strictly, and worked out into a catalogue."""

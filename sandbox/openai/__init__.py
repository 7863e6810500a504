"""A simulated seller that speaks OpenAI's Images API."""

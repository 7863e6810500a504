"""The simulated OpenAI Images API."""

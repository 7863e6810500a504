"""OpenAI's Responses API, as far as images go: a response is a job."""

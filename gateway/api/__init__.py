"""The HTTP API: parses requests, calls the engine, serializes responses. Imports no store library, no HTTP client."""

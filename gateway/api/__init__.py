"""HTTP words to ours and back. No store's library, no HTTP client."""

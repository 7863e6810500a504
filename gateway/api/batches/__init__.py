"""OpenAI's Files and Batch API: files of requests, and batches that work on them."""

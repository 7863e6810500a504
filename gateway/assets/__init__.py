"""Images: their headers, conversion, storage and signed URLs."""

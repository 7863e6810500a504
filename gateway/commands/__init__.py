"""The commands of `image-gateway`, one subject a file."""

"""The commands of `image-gateway`, one module each."""

"""The gateway: routing, jobs, money and the API in front of the sellers in `providers/`."""

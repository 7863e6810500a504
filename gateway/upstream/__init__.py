"""The gateway's HTTP client: requests to sellers, downloads from sellers and clients.

`SellerClient.send` raises no error for a failed request: it returns a NoAnswer, whose message is the name of the error.
The tree of errors is drawn in `gateway/__init__.py`.
"""

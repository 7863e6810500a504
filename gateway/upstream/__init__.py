"""The gateway's HTTP client: requests to sellers, downloads from sellers and clients.

Errors that leave this package:

    UnsendableRequest (ValueError)           the request is malformed, nothing was sent
        BadUrl, BadHeader, BadBody, MissingApiKey
    ResponseUnreadable                       a response arrived and cannot be decoded
        ResponseTooLarge
    DownloadError                            an image could not be downloaded
    FetchLimitReached, InputsTooLarge        a limit on input images was reached
    SemaphoreFull                            a tenant got no share in time
    LookupTimeout, LookupLimitReached        (OSError) a host name was not resolved
        TotalLookupLimitReached, TenantLookupLimitReached
    AddressBlocked (PermissionError)         the address guard blocked a connection

The last two groups are OSErrors because aiohttp wraps only these. `SellerClient.send` raises none of them: it returns
a NoAnswer, whose message is the name of the error.
"""

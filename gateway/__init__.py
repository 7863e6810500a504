"""The gateway: routing, jobs, money and the API in front of the sellers in `providers/`.

All errors of `gateway` and `providers`. `tests/test_layers.py` checks that the tree is complete.

    Exception
    ├── ApiError                          the error response of a request
    ├── ComponentError                    a component failed; `component` names it; the message is for operators
    │   ├── StoreError                    jobs
    │   │   └── StoreUnavailable          nothing was saved, and a retry may succeed
    │   │       ├── StoreOutcomeUnknown   the commit may or may not be saved
    │   │       ├── StoreFull             no room for new jobs
    │   │       ├── StoreReadOnly         it refuses every write
    │   │       └── StoreMisconfigured    jobs would be lost
    │   └── StorageError                  images
    │       ├── StorageUnavailable        a retry may succeed
    │       │   ├── StorageFull           no room for another image
    │       │   └── StorageAccessDenied   wrong credentials, unknown bucket or read-only folder
    │       ├── StorageMisconfigured      the storage URL cannot be used
    │       ├── ObjectNotFound            no image has this key
    │       └── ForeignObject             the gateway did not store the object at this key
    ├── ApiKeyNotFound                    no API key has this id
    ├── ApiKeyConfigured                  it is in the configuration, and is changed only there
    ├── ApiKeyInactive                    it has expired or was revoked
    ├── OverrideNotFound                  no override of a budget has this id, or it has ended
    ├── WebhookTargetNotFound             the team has no target of webhooks with this name
    ├── WebhookTargetConflict             the target does not permit this change; the message says why
    ├── RateLimitReached                  a request exceeds a limit of its team or API key
    ├── BatchLeaseLost                    another replica works on the batch now
    ├── LineJobDeleted                    the job of a line of a batch does not exist any more
    ├── LineNotOrdered                    the batch was cancelled, or has expired, before the line was ordered
    ├── NoOfferAvailable                  no configured offer can fulfil the request
    ├── ClientDisconnected                before anything was ordered
    ├── RequestRefused                    by the operator's moderation, before there was a job
    ├── ModerationUnavailable             the operator's moderation did not answer, before there was a job
    ├── RetryLater                        a callback cannot be checked now
    ├── OrderNotSent                      `fault` says why; nothing was ordered
    ├── SlotTimeout                       no order slot became free; nothing was ordered
    ├── ImageGone                         the image is not at its URL any more
    ├── DownloadError                     an image could not be downloaded
    ├── ResponseUnreadable                a response cannot be decoded
    │   └── ResponseTooLarge
    ├── FetchLimitReached                 too many concurrent downloads of input images
    ├── InputsTooLarge                    the input images exceed the team's share of memory
    ├── SemaphoreFull                     a tenant got no share in time
    ├── ParseError                        a seller's response contains no reliable information
    ├── YamlSyntaxError                   a file is not YAML
    ├── ConfigError                       the first configuration is invalid
    ├── UnreadableImage                   an image cannot be drawn in a terminal
    ├── FolderNotEmpty                    `init` writes into empty folders only
    └── StartError                        the gateway cannot start
    ValueError
    ├── RoutingError                      an invalid routing query, with the parameter's name
    ├── SizeError                         a size that the model does not support
    ├── UnsupportedOrder                  an order that the adapter cannot express
    ├── UnsendableRequest                 a malformed request; nothing was sent
    │   ├── BadUrl
    │   ├── BadHeader
    │   ├── BadBody
    │   └── MissingApiKey
    ├── InvalidImage                      bytes that are not a supported image
    │   ├── EmptyImage
    │   ├── UnsupportedFormat
    │   └── TooManyPixels
    ├── InvalidKey                        not a key of an image
    ├── InvalidKeyOption                  an invalid option of a key, budget override or webhook target, with its name
    ├── InvalidInvoice                    a seller's invoice cannot be read
    │   └── UnknownSeller                 the invoice is to be compared with an unknown seller
    ├── InvalidReportOption               an invalid option of a report of the ledger, with its name
    └── SettingsError                     invalid environment variables
    OSError                               aiohttp wraps only these
    ├── LookupTimeout                     no name server answered in time
    ├── LookupLimitReached                too many concurrent lookups
    │   ├── TotalLookupLimitReached
    │   └── TenantLookupLimitReached
    └── PermissionError
        └── AddressBlocked                the address guard blocked a connection
"""

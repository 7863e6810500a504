"""What an editor says of each option: its unit, its default and its consequence, as `config/` tells them at length."""

from typing import Any

OPTION_HELP: dict[str, dict[str, str]] = {
    "GatewayFile": {
        "reload": "How changes to these files take effect.",
        "jobs": "How long jobs may take.",
        "store": "What is asked of Redis.",
        "retention": "For how long what is kept.",
    },
    "JobsConfig": {
        "deadline_seconds": "Seconds after which a job expires. Default 900.",
        "lease_seconds": "Seconds after which others take over what a silent process works on. Default 15.",
    },
    "StoreConfig": {
        "durability": "'checked' asks Redis how it keeps data; 'declared' believes its operator. Default checked.",
    },
    "RetentionConfig": {
        "jobs_days": "Days for which settled jobs and their images are kept. Default 7.",
        "ledger_days": "Days for which each ledger entry is kept. Default 90.",
        "totals_months": "Months for which day totals and budgets are kept. Default 13.",
    },
    "ReloadConfig": {
        "watch": "Whether changed files take effect without a restart. Default true.",
        "every_seconds": "Seconds between two looks at the files. Default 1.0; larger delays changes.",
    },
    "AccountConfig": {
        "base_url": "Where the seller's API lives, without credentials or a query.",
        "key": "Where its key is: env:NAME or file:/path. Without the key the account is left out.",
        "replay": "Whether the same idempotency key with the same body surely never buys twice. Default untrusted.",
        "callback_secrets": "Where the secrets are that callbacks are signed with. Default none: none are believed.",
        "private": "Whether it may live at an address within our own network. Default false.",
        "proxy": "What its requests leave through: http://host:port, or where that is with credentials. Default none.",
        "limits": "How much each replica of the gateway orders here. Default no limits.",
    },
    "AccountLimits": {
        "concurrency": "Orders in progress at once, from 1. Default no limit; further orders wait, or go elsewhere.",
        "per_minute": "Orders sent in any 60 seconds, from 1. Default no limit; further orders wait, or go elsewhere.",
    },
    "OfferFile": {
        "account": "The account in accounts.yaml that pays.",
        "adapter": "The dialect that the seller is spoken to in.",
        "offers": "What he sells, by the names of models.yaml.",
    },
    "OfferConfig": {
        "model": "The seller's own name of the model.",
        "images_per_order": "Images that one order can be for. A larger request is split into several orders.",
        "quality": "Which qualities can be ordered, or which one comes.",
        "generate": "How sizes are ordered for new images. Without it, none are sold.",
        "edit": "How sizes are ordered for edits. Without it, none are sold.",
        "formats": "File formats that can be ordered. Default none: images are converted here.",
        "unverified": "What nobody has tried yet of this offer. Default nothing.",
        "mask": "Whether a mask can be sent with an edit. Default false.",
        "inputs": "Images that can be sent with an edit, 0 to 16. Default 0; edits need 1.",
        "seconds": "Expected seconds, by quality or as 'any' for all.",
        "prices": "What is sold: a cell without a price is not.",
        "tokens": "USD per million tokens, for sellers that bill by tokens. Default none: prices are per image.",
    },
    "QualityOptions": {
        "selectable": "Qualities that can be ordered. Instead of 'assumes'.",
        "assumes": "The one quality that we believe comes. Instead of 'selectable'; asking for one is a substitution.",
    },
    "SizeOptions": {
        "pixels": "Whether sizes can be ordered in pixels, and whether that is proven. Default none.",
        "presets": "The seller's words for sizes, and their pixels. Default none.",
        "ratios": "Aspect ratios that can be ordered, like 16:9. Default none.",
        "resolutions": "Tiers that can be ordered. Default all.",
        "unsold": "Shapes that are not sold all the same, like 1:1@4k. Default none.",
    },
    "ExpectedLatency": {
        "p50": "Seconds within which half are there.",
        "p90": "Seconds within which nine in ten are there.",
    },
    "TokenPrices": {
        "input_text": "USD per million tokens of the prompt.",
        "input_image": "USD per million tokens of input images.",
        "output": "USD per million tokens of the pictures.",
        "image_tokens": "The most tokens that one input image or mask counts as. Default 7000. Set aside.",
    },
    "PriceRow": {
        "price": "USD per image.",
        "ceiling": "USD per image at the most, set aside until the bill is known. Default the price.",
        "operations": "What it is the price of. Default both.",
        "resolutions": "Tiers that it is the price of. Default all.",
        "qualities": "Qualities that it is the price of. Default all.",
        "source": "Where the price was read.",
        "date": "The day when it was read, like 2026-07-23.",
    },
    "PoliciesFile": {
        "policies": "Ways to choose a seller, by name.",
        "rules": "Which policy to use when: the first rule that holds decides. Default none.",
        "default": "The policy that is used where no rule holds.",
    },
    "PolicyConfig": {
        "rank": "What decides: the quote, the expected time, the order of 'sellers', or chance by 'weights'.",
        "sellers": "These sellers only, for rank 'listed' in this order. Default all.",
        "weights": "Shares of requests by seller, for rank 'weighted' only.",
        "within": "Who is so near to the best counts as his equal, like 5%. Default 0%; for cost and latency only.",
        "then": "How equals are ordered. Default latency.",
        "fidelity": "exact: no seller that would need a substitution. Default nearest.",
        "failover": "What happens when an order fails.",
        "max_price": "USD per image at the most. Default no limit.",
        "max_cost": "USD per request at the most. Default no limit.",
        "max_seconds": "Seconds within which nine in ten must be there. Default no limit.",
        "only": "These sellers only, without an order. Default all.",
        "ignore": "All sellers but these. Default none.",
    },
    "FailoverConfig": {
        "attempts": "Orders tried per image, 1 to 10. Default 3.",
        "on_unknown": "reorder: buy again although the first order may have been taken. Default fail.",
    },
    "RuleConditions": {
        "team": "The team that asks. Default any, or none.",
        "model": "The model that is asked for, by its own name. Default any.",
        "operation": "What is to be done. Default either.",
        "resolution": "The tier of the size that is asked for. Default any.",
        "quality": "The quality that is asked for. Default any.",
        "n": "Images of the request. Default any number.",
        "metadata": "What the request's metadata must hold: all of these. Default nothing.",
    },
    "RuleConfig": {"when": "Conditions that must all hold.", "use": "The policy that is used then."},
}

# What options of a block may be together, in the words of JSON Schema.
EXTRA_CONSTRAINTS: dict[str, dict[str, Any]] = {
    "QualityOptions": {
        "oneOf": [
            {"required": ["selectable"], "properties": {"selectable": {"minItems": 1}, "assumes": {"type": "null"}}},
            {"required": ["assumes"], "properties": {"selectable": {"maxItems": 0}, "assumes": {"type": "string"}}},
        ]
    },
    "PolicyConfig": {"properties": {"then": {"not": {"const": "weighted"}}}},
}

"""Texts of sellers that must stay as they are."""

READABLE_TEXTS = """
prompt rejected: token limit exceeded (4096)
the key idea is simple
authorization failed
The key idea is to keep both edges divisible by 16
Authorization required
Your API key is invalid
Invalid API key
API key expired
API key is missing
The token has expired
Token is not valid for this model
key: field required
password is required
x-api-key header is missing
Missing required header: x-api-key
authentication error: invalid credentials
Credentials are invalid
max_tokens: 4096
token count 77 is over the limit of 75
Maximum tokens: 4096
The prompt has 5000 tokens, the maximum is 4000
The session has expired
Signature mismatch
The signature is invalid
Secret scenes are not allowed
Basic plan does not include 4k images
basic authentication required
HTTP 500
HTTP/1.1 503 Service Unavailable
Error: model gpt-image-2 is not available in your region
Quota exceeded for project: retry in 30 s
size 1536x1024 is not supported, use 1024x1024 or 2048x2048x3
image_urls[0]: could not be decoded
input.images.0.mask: must be a PNG
Unsupported aspect ratio 16:9 at 4k
Your account balance is 0.12 USD
Timeout after 120.5 s on worker 12
Keyframes are not supported
Monkey: banana
Please check your API key and try again
A key frame is needed
Rate limit: 60/min
invalid_request_error: size
content_policy_violation
2026-11-28T09:12:00Z internal error
Token refresh failed
The access token was revoked by the account owner
Key not found
No key provided
Authentication service is unavailable
The model did not return an image. Try again with another prompt.
Your request was rejected by the safety system
invalid size: must be one of 1024x1024, 1536x1024, 1024x1536 or auto
Unknown parameter: 'quality'
Unexpected key 'quality' in body
Unknown keys: prompt, size
n must be between 1 and 10
image: the file must be PNG, JPEG or WebP
Billing hard limit has been reached
Insufficient credits: balance 0.00, required 0.07
The server had an error while processing your request. Sorry about that!
Run 42 failed: worker out of memory
Field input.image_size: 5 is not in 1:1, 16:9
Model flux-1.1-pro-ultra is overloaded
Model gemini-2.5-flash-image-preview is not available
seedream_v4 and qwen-image-edit-2509 are not available
worker gpu-a100-80gb ran out of memory
NSFW score 0.98 exceeds 0.5
upstream_error: status 502
Task not found
The task timed out after 300s
Missing required field: prompt
mask must have the same size as the image (1024x1024)
prompt is too long: 33000 characters, maximum 32000
Token limit: 32000
You exceeded your current quota, please check your plan and billing details
Please pass the image as base64
Cannot pass a mask to this model
Your session has ended, start a new one
Invalid signature
unsupported content-type
Your IP address is not allowed
secret
Key
invalid_api_key
missing_authorization
insufficient_quota
Authentication Error, no api key passed in
No cookie auth credentials found
Authorization header is missing
Request header x-api-key is required
Rejected: violence/graphic, self-harm
error code: E1024
Code 40101, request 12
API rate limit exceeded for plan pro
API key has insufficient permissions
API key quota exceeded
API key does not have access to model gpt-image-2
The API key used is disabled
Too many keys in metadata: 17
Each key is limited to 64 characters
The key must be a string
Key 'name' is required
could not resolve the size
lookup failed, try again
failed to resolve 3 of 4 images
unknown host
cannot resolve quality to one of low, medium, high
10% of images failed; 3 of 4 are ready
Images (2/4) generated
see section 4.2, table 3
either and/or both
input[0].url is required
width x height must be < 8294400
ratio 16:9, quality low|medium|high
""".strip().splitlines()

"""The thread that parses large request bodies, so that other requests do not wait for them."""

from gateway.large_body_thread import BodyThread

# Parsing a body of this size takes a millisecond or two. Only bodies with long prompts or images are larger.
MAX_INLINE_BYTES = 32 << 10

run_off_loop = BodyThread("request-parser", MAX_INLINE_BYTES).run

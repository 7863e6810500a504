"""The thread that parses large request bodies, so that other requests do not wait for them."""

from gateway.body_thread import BodyThread

# Takes a millisecond or two. Only long prompts and images make bodies larger than that.
INLINE_MAX_BYTES = 32 << 10

run_off_loop = BodyThread("request-parser", INLINE_MAX_BYTES).run

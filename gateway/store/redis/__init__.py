"""Jobs in Redis, single or Cluster."""

from gateway.store.redis.store import RedisStore

__all__ = ["RedisStore"]

"""The Redis store, for replicas that share jobs: a single server or a Cluster."""

from gateway.store.redis.store import RedisStore

__all__ = ["RedisStore"]

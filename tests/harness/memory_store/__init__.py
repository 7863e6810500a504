"""A store in memory, for tests only: deterministic, shared by replicas, and a model for the real stores."""

from tests.harness.memory_store.call_interceptor import CallInterceptor, StoreCall
from tests.harness.memory_store.memory_state import AppliedCommit, LeaseOwner, MemoryState, StoredJob
from tests.harness.memory_store.store import MemoryStore

__all__ = ["AppliedCommit", "CallInterceptor", "LeaseOwner", "MemoryState", "MemoryStore", "StoreCall", "StoredJob"]

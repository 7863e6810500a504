"""What gateway.yaml may say: one strict struct per block."""

from typing import Annotated, Literal

from msgspec import Meta

from gateway.config.schema_base import ConfigStruct, PositiveSeconds


class ReloadConfig(ConfigStruct, frozen=True, kw_only=True):
    """Whether changed files take effect without a restart, and how many seconds lie between two looks at them."""

    watch: bool = True
    every_seconds: PositiveSeconds = 1.0


class JobsConfig(ConfigStruct, frozen=True, kw_only=True):
    """How long a job may take before it expires, however much of it is there, and how long one belongs to a process
    that gives no sign of life."""

    deadline_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 900.0
    lease_seconds: Annotated[float, Meta(ge=1, le=300)] = 15.0


class StoreConfig(ConfigStruct, frozen=True, kw_only=True):
    """Whether Redis is asked how it is configured, or believed to be durable because its operator says so."""

    durability: Literal["checked", "declared"] = "checked"


class RetentionConfig(ConfigStruct, frozen=True, kw_only=True):
    """For how long what is kept."""

    jobs_days: Annotated[float, Meta(ge=0.01, le=3_650)] = 7.0
    ledger_days: Annotated[float, Meta(ge=32, le=3_650)] = 90.0
    totals_months: Annotated[int, Meta(ge=2, le=120)] = 13


class GatewayFile(ConfigStruct, frozen=True, kw_only=True):
    """The gateway's own options."""

    reload: ReloadConfig = ReloadConfig()
    jobs: JobsConfig = JobsConfig()
    store: StoreConfig = StoreConfig()
    retention: RetentionConfig = RetentionConfig()

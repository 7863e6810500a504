"""Names of keys. All of a partition's share one hash tag, so that a Cluster keeps them together.

Only ids, digests, team names and dates make up a name: nothing that a caller wrote.
"""

from gateway.store.partitions import job_partition

CHANGES_CHANNEL = "igw:changed"
# And an owner's name: the channel that this replica alone listens on; the mark of one that has closed in good order.
REPLICA_CHANNEL_PREFIX = "igw:replica:"
CLOSED_MARK_PREFIX = "igw:closed:"
SIGNALS = "igw:shared"
SERVER_RUNS = "igw:runs"
# Every job of every partition, as a pattern.
JOB_PATTERN = "igw:{*}:job:*"


class PartitionKeys:
    """One partition's keys."""

    def __init__(self, partition: int) -> None:
        self.prefix = f"igw:{{{partition:02}}}:"
        self.due = f"{self.prefix}due"
        self.open = f"{self.prefix}open"
        self.outbox = f"{self.prefix}outbox"
        self.webhooks = f"{self.prefix}webhooks"
        self.teams = f"{self.prefix}teams"
        self.retention = f"{self.prefix}kept"
        self.audit_lock = f"{self.prefix}audit"
        self.no_idempotency_record = f"{self.prefix}record"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def milestones(self, job_id: str) -> str:
        return f"{self.prefix}milestones:{job_id}"

    def team_jobs(self, team: str) -> str:
        return f"{self.prefix}jobs:{team}"

    def ledger(self, day: str) -> str:
        return f"{self.prefix}ledger:{day}"

    def totals(self, day: str) -> str:
        return f"{self.prefix}totals:{day}"

    def budget(self, team: str, window: str) -> str:
        return f"{self.prefix}budget:{team}:{window}"

    def idempotency_record(self, team: str, key: str, is_body_key: bool) -> str:
        """With the length of the team's name, so that no other team's key can read the same."""
        return f"{self.prefix}{'soft' if is_body_key else 'key'}:{len(team)}:{team}:{key}"


class KeySpace:
    """Every partition's, made once."""

    def __init__(self, partitions: range) -> None:
        self._keys = [PartitionKeys(partition) for partition in partitions]

    def __getitem__(self, partition: int) -> PartitionKeys:
        return self._keys[partition]

    def get_job_keys(self, job_id: str) -> PartitionKeys | None:
        """None if this cannot be the id of any job."""
        partition = job_partition(job_id)
        return None if partition is None else self._keys[partition]

"""Names of Redis keys. All keys of a partition share one hash tag, so that a Cluster keeps them on one server.

Names contain only ids, digests, team names and dates: no text of a client.
"""

from gateway.store.partitions import job_partition

CHANGES_CHANNEL = "igw:changed"
# Without subscribers: replicas of the server receive its messages in the order of all writes.
REPLICATION_CHANNEL = "igw:replicated"
# Prefixes of a replica id: the channel to which only this replica subscribes, and the mark of a replica that closed
# normally.
REPLICA_CHANNEL_PREFIX = "igw:replica:"
CLOSED_MARK_PREFIX = "igw:closed:"
SIGNALS = "igw:signals"
HEARTBEATS = "igw:heartbeats"
SERVER_RUNS = "igw:runs"
AUDIT_CLAIM = "igw:audit_claim"
# API keys and admin events change together, so they are on one server.
API_KEYS = "igw:{api_keys}:entries"
API_KEY_VERSION = "igw:{api_keys}:version"
API_KEY_USES = "igw:{api_keys}:uses"
ADMIN_EVENTS = "igw:{api_keys}:events"
# Files and batches are few, so they are on one server.
_TEAM_RECORDS = "igw:{team_records}:"
# Matches every job of every partition.
JOB_PATTERN = "igw:{*}:job:*"


def make_record_key(record_id: str) -> str:
    return f"{_TEAM_RECORDS}record:{record_id}"


def make_record_list_key(kind: str, team: str) -> str:
    return f"{_TEAM_RECORDS}list:{kind}:{team}"


def make_record_due_key(kind: str) -> str:
    return f"{_TEAM_RECORDS}due:{kind}"


class PartitionKeys:
    """The keys of one partition."""

    def __init__(self, partition: int) -> None:
        self.prefix = f"igw:{{{partition:02}}}:"
        self.due = f"{self.prefix}due"
        self.open = f"{self.prefix}open"
        self.open_states = f"{self.prefix}open_states"
        self.lifetime_totals = f"{self.prefix}lifetime_totals"
        self.uncounted_days = f"{self.prefix}uncounted_days"
        self.outbox = f"{self.prefix}outbox"
        self.webhooks = f"{self.prefix}webhooks"
        # Teams and API keys with balances.
        self.owners = f"{self.prefix}owners"
        self.retention = f"{self.prefix}retention"
        self.audit = f"{self.prefix}audit"
        # A placeholder for scripts that need no idempotency record.
        self.no_idempotency_record = f"{self.prefix}unused"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def milestones(self, job_id: str) -> str:
        return f"{self.prefix}milestones:{job_id}"

    def team_jobs(self, team: str) -> str:
        return f"{self.prefix}jobs:{team}"

    def ledger(self, day: str) -> str:
        return f"{self.prefix}ledger:{day}"

    def irregular_entries(self, day: str) -> str:
        """Returns the key of another list of the entries that are not captures."""
        return f"{self.prefix}irregular:{day}"

    def corrections(self, day: str) -> str:
        return f"{self.prefix}corrections:{day}"

    def totals(self, period: str) -> str:
        """Returns the key of the totals of a day or an hour."""
        return f"{self.prefix}totals:{period}"

    def decision_records(self, day: str) -> str:
        return f"{self.prefix}decisions:{day}"

    def budget(self, owner: str, window: str) -> str:
        return f"{self.prefix}budget:{owner}:{window}"

    def idempotency_record(self, team: str, key: str, is_body_key: bool) -> str:
        """Returns the key of an idempotency record. It contains the length of the team's name, so that keys of two
        teams never coincide."""
        return f"{self.prefix}{'body' if is_body_key else 'key'}:{len(team)}:{team}:{key}"


class KeySpace:
    """The keys of all partitions."""

    def __init__(self, partitions: range) -> None:
        self._keys = [PartitionKeys(partition) for partition in partitions]

    def __getitem__(self, partition: int) -> PartitionKeys:
        return self._keys[partition]

    def get_job_keys(self, job_id: str) -> PartitionKeys | None:
        """Returns the keys of the job's partition, or None for an invalid id."""
        partition = job_partition(job_id)
        return None if partition is None else self._keys[partition]

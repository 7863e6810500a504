"""Names of keys. All of a partition's share one hash tag, so that a Cluster keeps them together.

Only ids, digests, team names and dates make up a name: nothing that a caller wrote.
"""

from gateway.store.partitions import partition_of_job

CHANNEL = "igw:changed"
# And an owner's name: the channel that this replica alone listens on; the mark of one that has closed in good order.
REPLICAS = "igw:replica:"
CLOSED = "igw:closed:"
SHARED = "igw:shared"
RUNS = "igw:runs"
# Every job of every partition, as a pattern.
JOBS = "igw:{*}:job:*"


class Keys:
    """One partition's keys."""

    def __init__(self, partition: int) -> None:
        self.prefix = f"igw:{{{partition:02}}}:"
        self.due = f"{self.prefix}due"
        self.open = f"{self.prefix}open"
        self.outbox = f"{self.prefix}outbox"
        self.webhooks = f"{self.prefix}webhooks"
        self.teams = f"{self.prefix}teams"
        self.kept = f"{self.prefix}kept"
        self.audit = f"{self.prefix}audit"
        self.no_record = f"{self.prefix}record"

    def job(self, job: str) -> str:
        return f"{self.prefix}job:{job}"

    def milestones(self, job: str) -> str:
        return f"{self.prefix}milestones:{job}"

    def jobs(self, team: str) -> str:
        return f"{self.prefix}jobs:{team}"

    def ledger(self, day: str) -> str:
        return f"{self.prefix}ledger:{day}"

    def totals(self, day: str) -> str:
        return f"{self.prefix}totals:{day}"

    def budget(self, team: str, window: str) -> str:
        return f"{self.prefix}budget:{team}:{window}"

    def record(self, team: str, key: str, soft: bool) -> str:
        """With the length of the team's name, so that no other team's key can read the same."""
        return f"{self.prefix}{'soft' if soft else 'key'}:{len(team)}:{team}:{key}"


class AllKeys:
    """Every partition's, made once."""

    def __init__(self, partitions: range) -> None:
        self._keys = [Keys(partition) for partition in partitions]

    def __getitem__(self, partition: int) -> Keys:
        return self._keys[partition]

    def of_job(self, job: str) -> Keys | None:
        """None if this cannot be the id of any job."""
        partition = partition_of_job(job)
        return None if partition is None else self._keys[partition]

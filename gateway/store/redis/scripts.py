"""The Lua scripts. Each has a shebang, so that Redis executes it completely or not at all, even if its memory is
full.
"""

import hashlib
from pathlib import Path

from msgspec import Struct

_LUA_FOLDER = Path(__file__).parent / "lua"
_INCLUDES = ("clock", "repeated_request_matching", "derived_totals", "budgets")


class Script(Struct, frozen=True):
    """A script's source, and the SHA-1 by which Redis finds it. `is_replicated`: its reply waits for replicas, if the
    configuration asks for that."""

    text: str
    sha: str
    is_replicated: bool = False


def _read_lua(name: str) -> str:
    body = (_LUA_FOLDER / f"{name}.lua").read_text()
    for include in _INCLUDES:
        body = body.replace(f"--include {include}\n", (_LUA_FOLDER / f"{include}.lua").read_text())
    return body


def _load_script(name: str, flags: str = "", is_replicated: bool = False) -> Script:
    return _make_script(_read_lua(name), flags, is_replicated)


def _load_partition_script(name: str, flags: str) -> Script:
    """Loads a script that `RedisClient.run_on_partitions` runs. It has `prefix`, with which the partition's keys
    begin."""
    return _make_script(_read_lua("each_partition").replace("--include partition_script\n", _read_lua(name)), flags)


def _make_script(body: str, flags: str, is_replicated: bool = False) -> Script:
    text = f"#!lua {flags}".rstrip() + f"\n{body}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), is_replicated)


# One script with two sets of flags: if its memory is full, Redis refuses new jobs but still records updates of jobs.
COMMIT_NEW_JOB = _load_script("commit", is_replicated=True)
ANNOUNCE_JOB = _load_script("announce_job")
COMMIT_UPDATE = _load_script("commit", "flags=allow-oom", is_replicated=True)
ATTACH_CALLER = _load_script("attach_caller", "flags=allow-oom", is_replicated=True)
REMOVE_CALLER = _load_script("remove_caller", "flags=allow-oom")
CLAIM_JOB = _load_script("claim_job", "flags=allow-oom", is_replicated=True)
LIST_CLAIMABLE = _load_partition_script("list_claimable", "flags=allow-oom")
LIST_DUE = _load_partition_script("list_due", "flags=allow-oom")
RENEW_LEASES = _load_script("renew_leases", "flags=allow-oom")
EXPIRE_LEASES = _load_script("expire_leases", "flags=allow-oom")
RELEASE_JOB = _load_script("release_job", "flags=allow-oom")
CLAIM_DELIVERY = _load_script("claim_delivery", "flags=allow-oom")
RETRY_DELIVERY = _load_script("retry_delivery", "flags=allow-oom")
ACK_DELIVERY = _load_script("ack_delivery", "flags=allow-oom")
PUBLISH_SIGNAL = _load_script("publish_signal", "flags=allow-oom")
READ_SIGNALS = _load_script("read_signals", "flags=allow-oom")
DELETE_JOB = _load_script("delete_job", "flags=allow-oom")
CLAIM_AUDIT = _load_script("claim_audit", "flags=allow-oom")
BEGIN_AUDIT = _load_script("begin_audit", "flags=allow-oom")
READ_AUDIT_PAGE = _load_script("read_audit_page", "flags=allow-oom")
FINISH_SNAPSHOT = _load_script("finish_snapshot", "flags=allow-oom")
END_AUDIT = _load_script("end_audit", "flags=allow-oom")
LOAD_API_KEYS = _load_script("load_api_keys", "flags=allow-oom")
CHANGE_API_KEYS = _load_script("change_api_keys", "flags=allow-oom", is_replicated=True)
RECORD_API_KEY_USES = _load_script("record_api_key_uses", "flags=allow-oom")
# The same for files and batches.
SAVE_NEW_TEAM_RECORD = _load_script("save_team_record", is_replicated=True)
SAVE_TEAM_RECORD = _load_script("save_team_record", "flags=allow-oom", is_replicated=True)
DELETE_TEAM_RECORD = _load_script("delete_team_record", "flags=allow-oom")
LIST_DUE_RECORDS = _load_script("list_due_records", "flags=no-writes,allow-oom")
UPDATE_LIFETIME_TOTALS = _load_script("update_lifetime_totals", "flags=allow-oom")
LIST_BALANCES = _load_partition_script("list_balances", "flags=no-writes,allow-oom")
SUM_TOTALS = _load_script("sum_totals", "flags=no-writes,allow-oom")
READ_BACKLOG = _load_partition_script("read_backlog", "flags=allow-oom")
EXCHANGE_HEARTBEATS = _load_script("exchange_heartbeats", "flags=allow-oom")
RECORD_SERVER_RUNS = _load_script("record_server_runs", "flags=allow-oom")
CHECK_PERMISSIONS = _load_script("check_permissions", "flags=no-writes,allow-oom")
POST_CORRECTION = _load_script("post_correction", "flags=allow-oom", is_replicated=True)
REPAIR = _load_script("repair", "flags=allow-oom")

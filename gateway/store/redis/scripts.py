"""The Lua scripts. Each has a shebang, so that Redis refuses it whole or runs it whole, also when memory is full."""

import hashlib
from pathlib import Path

from msgspec import Struct

_FOLDER = Path(__file__).parent / "lua"
_INCLUDED = ("time", "bodies")


class Script(Struct, frozen=True):
    text: str
    sha: str


def _script(name: str, flags: str = "") -> Script:
    body = (_FOLDER / f"{name}.lua").read_text()
    for part in _INCLUDED:
        body = body.replace(f"--include {part}\n", (_FOLDER / f"{part}.lua").read_text())
    text = f"#!lua {flags}".rstrip() + f"\n{body}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# One body in two roles: with memory full, nothing new is accepted, but what is known of old jobs is still recorded.
ACCEPT = _script("commit")
ANNOUNCE = _script("announce")
RECORD = _script("commit", "flags=allow-oom")
ATTACH = _script("attach", "flags=allow-oom")
LEAVE = _script("leave", "flags=allow-oom")
CLAIM = _script("claim", "flags=allow-oom")
CLAIMABLE = _script("claimable", "flags=allow-oom")
DUE = _script("due", "flags=allow-oom")
BEAT = _script("beat", "flags=allow-oom")
SNOOZE = _script("snooze", "flags=allow-oom")
OUTGOING = _script("outgoing", "flags=allow-oom")
POSTPONE = _script("postpone", "flags=allow-oom")
DELIVERED = _script("delivered", "flags=allow-oom")
SHARE = _script("share", "flags=allow-oom")
SHARED = _script("shared", "flags=allow-oom")
FORGET = _script("forget", "flags=allow-oom")
SNAPSHOT = _script("snapshot", "flags=allow-oom")
MEND = _script("mend", "flags=allow-oom")

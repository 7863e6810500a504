"""The commands of a Cluster are loaded from any primary that answers, and only once."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from gateway.store.redis.cluster_connection import ClusterCommands


class ScriptedPrimary:
    def __init__(self, *, is_down: bool) -> None:
        self.is_down = is_down
        self.requests = 0

    async def execute_command(self, *command: str) -> dict[str, dict[str, str]]:
        assert command == ("COMMAND",)
        self.requests += 1
        if self.is_down:
            raise ConnectionError("Error 111")
        return {"GET": {"name": "get"}}


class ScriptedCluster:
    def __init__(self, *primaries: ScriptedPrimary) -> None:
        self._primaries = primaries

    def get_primaries(self) -> list[ScriptedPrimary]:
        return list(self._primaries)


def make_commands(*primaries: ScriptedPrimary) -> ClusterCommands:
    cluster: Any = ScriptedCluster(*primaries)
    return ClusterCommands(cluster)


def test_another_primary_is_asked_if_the_first_is_down() -> None:
    down, running = ScriptedPrimary(is_down=True), ScriptedPrimary(is_down=False)
    commands = make_commands(down, running)
    asyncio.run(commands.initialize())
    assert commands.commands == {"get": {"name": "get"}}
    assert (down.requests, running.requests) == (1, 1)


def test_commands_are_loaded_once() -> None:
    primary = ScriptedPrimary(is_down=False)
    commands = make_commands(primary)
    asyncio.run(commands.initialize())
    primary.is_down = True
    asyncio.run(commands.initialize())
    assert primary.requests == 1


def test_cluster_without_a_running_primary_cannot_be_used() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(make_commands(ScriptedPrimary(is_down=True), ScriptedPrimary(is_down=True)).initialize())

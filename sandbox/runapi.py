"""Placeholder until the vendor is written."""

from sandbox.world import World

HANDLERS: list = []


class _S:
    def error(self, status, code=None, message=None):
        return {"error": message or code or status}


def open_shop(world: World):
    return _S()

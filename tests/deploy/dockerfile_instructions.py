"""The instructions of `deploy/Dockerfile`, as the parser of Docker reads them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dockerfile
from msgspec import Struct

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


class Instruction(Struct, frozen=True):
    name: str
    words: tuple[str, ...]
    flags: tuple[str, ...]
    is_list: bool


class Stage(Struct, frozen=True):
    """One image that the file builds: its base, its name, and the instructions after FROM."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def find_all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]

    def find_words(self, name: str) -> tuple[str, ...]:
        """Returns the words of the last instruction of this name."""
        return self.find_all(name)[-1].words


def read_stages(path: Path = DOCKERFILE) -> list[Stage]:
    instructions = [
        Instruction(command.cmd, tuple(command.value), tuple(command.flags), command.json)
        for command in dockerfile.parse_file(str(path))
    ]
    return list(_split_stages(instructions))


def _split_stages(instructions: Sequence[Instruction]) -> Iterator[Stage]:
    starts = [index for index, instruction in enumerate(instructions) if instruction.name == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        base, *name = instructions[start].words
        yield Stage(base, name[1] if name else "", tuple(instructions[start + 1 : end]))


def list_base_images(path: Path = DOCKERFILE) -> list[str]:
    """Lists the build arguments before the first FROM: the base images."""
    lines = path.read_text().partition("\nFROM ")[0].splitlines()
    return [line.removeprefix("ARG ") for line in lines if line.startswith("ARG ")]

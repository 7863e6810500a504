"""Exit codes of the commands that use a running gateway, and the exceptions that end a command with one."""

from enum import IntEnum

import click


class ExitCode(IntEnum):
    """Why a command ended. Scripts rely on the numbers; 2 is also click's code for invalid options."""

    DELIVERED = 0
    ERROR = 1
    INVALID_OPTIONS = 2
    REFUSED = 3
    NOT_CHARGED = 4
    PERHAPS_CHARGED = 5
    INCOMPLETE = 6
    UNREACHABLE = 7
    TIMED_OUT = 8
    CANCELLED = 9
    UNCONFIRMED = 10
    INTERRUPTED = 130


EXIT_CODE_MEANINGS = {
    ExitCode.DELIVERED: "all images were delivered and written",
    ExitCode.ERROR: "a file cannot be written, or the gateway sent an invalid response; the job continues",
    ExitCode.INVALID_OPTIONS: "invalid options; nothing was sent",
    ExitCode.REFUSED: "the gateway, or a content filter, refused the request; nothing was charged",
    ExitCode.NOT_CHARGED: "the job failed; nothing was charged",
    ExitCode.PERHAPS_CHARGED: "the job failed, and a seller was or may have been paid: do not just repeat it",
    ExitCode.INCOMPLETE: "only some of the images were delivered",
    ExitCode.UNREACHABLE: "the gateway is unreachable; this command ordered nothing, and existing jobs continue",
    ExitCode.TIMED_OUT: "--timeout has passed; the job continues",
    ExitCode.CANCELLED: "the job was cancelled before any image was delivered",
    ExitCode.UNCONFIRMED: "the gateway may have accepted the request, and did not confirm it: repeat it as printed",
    ExitCode.INTERRUPTED: "interrupted, such as by Ctrl-C; the job continues",
}


class CommandFailed(click.ClickException):
    """Ends the command with a message and an exit code. `hint`: what to do next, on a line of its own."""

    def __init__(self, exit_code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
        self.hint = hint

    def format_message(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def describe_output_error(error: OSError) -> str:
    """Describes why standard output failed. The commands handle the errors of other files themselves."""
    return f"Standard output cannot be written: {error.strerror}."


def describe_exit_codes() -> str:
    """Describes all codes, for the end of a help text."""
    lines = (f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
    return "\b\nExit codes:\n" + "\n".join(lines)

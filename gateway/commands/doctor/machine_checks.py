"""Checks the machine: limits of the process, and its clock."""

import resource

from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status

# A thousand waiting clients and their orders need two thousand connections, and images and stores need files.
NEEDED_OPEN_FILES, MIN_OPEN_FILES = 4_096, 1_024
# Other replicas take a job over after 15 s without a lease; sellers reject callbacks and signatures of old times.
MAX_CLOCK_OFFSET_SECONDS, MAX_FAILING_OFFSET_SECONDS = 2.0, 15.0


async def check_limits(context: DoctorContext) -> list[DoctorFinding]:
    """Checks how many files and connections a process of this user may open. The gateway uses the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= NEEDED_OPEN_FILES:
        count = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
        return [DoctorFinding("limits", Status.OK, f"A process may open {count} files and connections")]
    status = Status.FAILED if hard < MIN_OPEN_FILES else Status.WARNING
    message = f"A process may open {hard:,} files and connections; a busy gateway needs {NEEDED_OPEN_FILES:,}."
    remedy = f"Raise the hard limit: LimitNOFILE={NEEDED_OPEN_FILES} (systemd), --ulimit nofile (Docker), ulimit -Hn."
    return [DoctorFinding("limits", status, message, remedy)]


def check_clock(context: DoctorContext) -> list[DoctorFinding]:
    """Compares the local clock with the remote ones that the other checks saw. Called after them."""
    samples = context.clock_samples
    if not samples:
        return [DoctorFinding("clock", Status.SKIPPED, "No store and no seller showed its clock")]
    worst = max(samples, key=lambda sample: abs(sample.offset) - sample.uncertainty)
    certain_offset = abs(worst.offset) - worst.uncertainty
    if certain_offset < MAX_CLOCK_OFFSET_SECONDS:
        sources = ", ".join(dict.fromkeys(sample.source for sample in samples))
        return [DoctorFinding("clock", Status.OK, f"Agrees with {sources}")]
    status = Status.FAILED if certain_offset >= MAX_FAILING_OFFSET_SECONDS else Status.WARNING
    direction = "behind" if worst.offset > 0 else "ahead of"
    message = f"The clock of this machine is {abs(worst.offset):.1f} s {direction} that of {worst.source}."
    return [DoctorFinding("clock", status, message, "Synchronize the clock, such as with chrony or systemd-timesyncd.")]

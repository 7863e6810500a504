"""`jobs`, `cancel` and `generate --quote` against a running gateway."""

import re

import pytest

from gateway.commands.exit_codes import ExitCode
from tests.command_line.client_commands import ClientCommands
from tests.harness.gateway_runner import RunningGateway

LOW = ("--quality", "low")


def generate_labelled(commands: ClientCommands, label: str, *arguments: str) -> str:
    return commands.run_successfully("generate", "a lighthouse", *LOW, "--no-wait", "--label", label, *arguments)[0]


def test_jobs_are_listed_newest_first_with_filters(commands: ClientCommands, gateway: RunningGateway) -> None:
    created = [generate_labelled(commands, "listed") for _ in range(3)]
    for job_id in created:
        commands.run_successfully("wait", job_id)
    listed = commands.run_json("jobs", "--label", "listed", "--status", "completed", "--status", "failed")
    assert {job["id"] for job in listed} == set(created)
    assert len(commands.run_json("jobs", "--label", "listed", "--limit", "2")) == 2
    header, *rows = commands.run_successfully("jobs", "--label", "listed")
    assert header.split() == ["JOB", "CREATED", "STATUS", "IMAGES", "COST", "MODEL"]
    assert [row.split()[0] for row in rows] == created[::-1]
    nothing = commands.run("jobs", "--label", "unknown")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no jobs\n")


def test_cancelled_job_delivers_what_is_already_ordered(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    with commands.start("generate", "a lighthouse", *LOW, "--label", "cancelled", "-o", "cat.png") as running:
        running.wait_for_stderr(": in progress at ")
        (job,) = commands.run_json("jobs", "--label", "cancelled")
        cancelled = commands.run("cancel", job["id"])
        assert cancelled.returncode == 0, cancelled.stderr
        assert "may still be charged" in cancelled.stderr
        gateway.sandbox.release_orders()
        assert running.wait() == 0, running.stderr
    assert commands.open_image("cat.png").format == "PNG"
    again = commands.run("cancel", generate_and_wait(commands))
    assert again.returncode == ExitCode.REFUSED
    assert "cannot be cancelled" in again.stderr


def generate_and_wait(commands: ClientCommands) -> str:
    job_id: str = commands.run_json("generate", "a lighthouse", *LOW)["id"]
    return job_id


def test_quote_orders_nothing(commands: ClientCommands, gateway: RunningGateway) -> None:
    charges, files = len(gateway.sandbox.list_charges()), commands.list_files()
    quote = commands.run_json("generate", "a lighthouse", *LOW, "-n", "2", "--quote")
    assert (quote["object"], quote["n"]) == ("quote", 2)
    text = "\n".join(commands.run_successfully("generate", "a lighthouse", *LOW, "-n", "2", "--quote"))
    assert quote["winner"]["seller"] in text
    refused = commands.run("generate", "a lighthouse", *LOW, "--quote", "--max-cost", "0.000001")
    assert refused.returncode == ExitCode.REFUSED, refused.stderr
    assert len(gateway.sandbox.list_charges()) == charges
    assert commands.list_files() == files


@pytest.mark.parametrize("columns", [30, 60, 70, 80, 200])
def test_quote_splits_no_name_and_no_amount(commands: ClientCommands, columns: int) -> None:
    quote = commands.run_json("generate", "a lighthouse", *LOW, "--quote")
    result = commands.run("generate", "a lighthouse", *LOW, "--quote", COLUMNS=str(columns))
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    for seller in quote["ranked"]:
        assert any(re.search(rf"\b{seller['seller']}\b.*", line) for line in lines), result.stdout
        assert re.search(rf"\${seller['price']:g}\b", result.stdout), result.stdout


@pytest.mark.parametrize("job_id", ["", "../admin", "job 1", "job_é"])
@pytest.mark.parametrize("command", ["wait", "job", "cancel"])
def test_invalid_id_is_refused_before_anything_is_sent(commands: ClientCommands, command: str, job_id: str) -> None:
    result = commands.run(command, job_id)
    assert result.returncode == ExitCode.INVALID_OPTIONS
    assert f"Invalid job id '{job_id}'" in result.stderr

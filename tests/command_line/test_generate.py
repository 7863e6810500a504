"""`image-gateway generate` against a running gateway: files, names, edits, and what goes to standard output."""

import json

import pytest

from tests.command_line.client_commands import ClientCommands
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import make_image


def test_installed_program_writes_image_and_prints_its_path(commands: ClientCommands, gateway: RunningGateway) -> None:
    charges = len(gateway.sandbox.list_charges())
    with commands.start("generate", "a lighthouse", "--quality", "low", "-o", "cat.png") as running:
        assert running.wait() == 0, running.stderr
    assert running.stdout == b"cat.png\n"
    assert commands.open_image("cat.png").format == "PNG"
    assert commands.list_files() == ["cat.png"], "no temporary file is left"
    assert "1 image by " in running.stderr
    assert "\x1b" not in running.stderr, "no bar without a terminal"
    assert len(gateway.sandbox.list_charges()) == charges + 1


def test_several_images_are_numbered_in_format_of_extension(commands: ClientCommands) -> None:
    arguments = ("generate", "a lighthouse", "-n", "3", "--quality", "low", "-o", "out/cat.webp")
    assert commands.run_successfully(*arguments) == ["out/cat-1.webp", "out/cat-2.webp", "out/cat-3.webp"]
    assert {commands.open_image(f"out/cat-{number}.webp").format for number in (1, 2, 3)} == {"WEBP"}


def test_files_are_named_after_job_by_default_and_in_folders(commands: ClientCommands) -> None:
    (path,) = commands.run_successfully("generate", "a lighthouse", "--quality", "low", "--format", "jpeg")
    assert path.startswith("job_")
    assert commands.open_image(path).format == "JPEG"
    (other_path,) = commands.run_successfully("generate", "a lighthouse", "--quality", "low", "-o", "new/")
    assert other_path.startswith("new/job_")
    assert commands.open_image(other_path).format == "PNG"


def test_existing_file_is_refused_before_anything_is_ordered(commands: ClientCommands, gateway: RunningGateway) -> None:
    charges = len(gateway.sandbox.list_charges())
    (commands.folder / "cat-2.png").write_text("mine")
    refused = commands.run("generate", "a lighthouse", "-n", "2", "-o", "cat.png")
    assert refused.returncode == 2
    assert "cat-2.png exists: use --force" in refused.stderr
    assert (commands.folder / "cat-2.png").read_text() == "mine"
    assert len(gateway.sandbox.list_charges()) == charges
    commands.run_successfully("generate", "a lighthouse", "-n", "2", "-o", "cat.png", "--force")
    assert commands.open_image("cat-2.png").format == "PNG"


@pytest.mark.parametrize("output", ["/dev/null", "/proc/new/cat.png"])
def test_device_and_unusable_folder_are_refused(commands: ClientCommands, output: str) -> None:
    result = commands.run("generate", "a lighthouse", "--force", "-o", output)
    assert result.returncode == 2
    assert "exists: choose another" in result.stderr or "cannot be made" in result.stderr


def test_json_is_the_job_with_its_files(commands: ClientCommands) -> None:
    job = commands.run_json("generate", "a lighthouse", "--quality", "low", "-o", "cat.png", "--metadata", "page=12")
    assert (job["status"], job["files"], job["metadata"]) == ("completed", ["cat.png"], {"page": "12"})
    assert commands.open_image("cat.png").size == (1024, 1024)


def test_image_goes_to_standard_output(commands: ClientCommands) -> None:
    with commands.start("generate", "a lighthouse", "--quality", "low", "-o", "-", "--json") as running:
        assert running.wait() == 0, running.stderr
    assert running.stdout.startswith(b"\x89PNG")
    assert running.stdout.endswith(b"IEND\xaeB`\x82")
    assert '"status": "completed"' in running.stderr


def test_edit_sends_all_images_and_mask(commands: ClientCommands, gateway: RunningGateway) -> None:
    for name in ("cat.png", "dog.png"):
        (commands.folder / name).write_bytes(make_image(512, 512))
    (commands.folder / "mask.png").write_bytes(make_image(512, 512, mode="RGBA"))
    arguments = ("both in one room", "--edit", "cat.png", "dog.png", "--mask", "mask.png", "-o", "room.png")
    job = commands.run_json("generate", *arguments)
    assert (job["operation"], job["files"]) == ("edit", ["room.png"])
    commands.open_image("room.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "lighthouse"), "put the prompt in quotes"),
        (("a lighthouse", "--mask", "mask.png"), "add --edit IMAGE"),
        (("winter", "--edit", "missing.png"), "missing.png cannot be read: No such file or directory"),
        (("--edit", "cat.png", "winter"), "cat.png cannot be read"),
        (("winter", "--edit", "/dev/zero"), "/dev/zero is larger than 64 MiB"),
        (("   ",), "The prompt is empty"),
        (("a lighthouse", "-n", "2", "-o", "-"), "--output - takes one image"),
        (("a lighthouse", "--url", "ftp://x"), "use an http:// or https:// URL like http://127.0.0.1:8080"),
        (("a lighthouse", "--url", "http://h:99999", "--key", "k"), "Invalid gateway URL"),
        (("a lighthouse", "--url", "http://h/?a=b", "--key", "k"), "Invalid gateway URL"),
        (("a lighthouse", "--url", "https://images.example.com"), "Missing API key: set --key or IGW_KEY"),
        (("a lighthouse", "--key", "k\né"), "Invalid API key"),
        (("a lighthouse", "--metadata", "page"), "is not name=value"),
        (("a lighthouse", "--metadata", "page=1", "--metadata", "page=2"), "'page' has two values: '1' and '2'"),
        (("a lighthouse", "--idempotency-key", "é"), "Invalid --idempotency-key"),
        (("a lighthouse", "--timeout", "nan"), "'nan' is not a number of seconds"),
        (("a lighthouse", "-q", "low"), "-q is --quiet, write --quality in full"),
        (("a lighthouse", "--qu", "low"), "No such option"),
        (("a lighthouse", "-o", "cat.tiff"), "no model makes .tiff files"),
        (("a lighthouse", "-o", f"{'x' * 300}.png"), "cannot be written: File name too long"),
    ],
)
def test_invalid_options_are_explained_and_send_nothing(
    commands: ClientCommands, gateway: RunningGateway, arguments: tuple[str, ...], message: str
) -> None:
    charges = len(gateway.sandbox.list_charges())
    result = commands.run("generate", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(gateway.sandbox.list_charges()) == charges


def test_repeated_command_with_one_key_buys_once(commands: ClientCommands, gateway: RunningGateway) -> None:
    charges = len(gateway.sandbox.list_charges())
    arguments = ("generate", "a lighthouse", "--quality", "low", "--idempotency-key", "night-1")
    first = commands.run_json(*arguments, "-o", "one.png")
    second = commands.run_json(*arguments, "-o", "two.png")
    assert first["id"] == second["id"]
    assert (commands.folder / "one.png").read_bytes() == (commands.folder / "two.png").read_bytes()
    assert len(gateway.sandbox.list_charges()) == charges + 1


def test_job_without_waiting_is_fetched_by_wait(commands: ClientCommands) -> None:
    (job_id,) = commands.run_successfully("generate", "a lighthouse", "--quality", "low", "--no-wait")
    assert job_id.startswith("job_")
    assert commands.run_successfully("wait", job_id, "-o", "cat.png") == ["cat.png"]
    shown = commands.run_json("job", job_id)
    assert (shown["id"], shown["status"]) == (job_id, "completed")
    assert f"job {job_id} completed: 1 image" in "\n".join(commands.run_successfully("job", job_id))
    detached = commands.run_json("generate", "a lighthouse", "--quality", "low", "--no-wait")
    assert json.dumps(detached["status"]) in ('"queued"', '"in_progress"', '"completed"')


def test_parameter_without_effect_is_a_warning_on_standard_error(commands: ClientCommands) -> None:
    result = commands.run("generate", "a lighthouse", "--quality", "hd", "-o", "cat.png")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "cat.png\n"
    assert "warning: " in result.stderr

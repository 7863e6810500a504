"""`image-gateway generate`: makes or edits images through a running gateway."""

import base64
import re
import sys
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import click

from gateway.commands.exit_codes import describe_exit_codes
from gateway.commands.job_client import MAX_BODY_BYTES, JobClient, Json
from gateway.commands.job_delivery import ResumeAdvice, add_resume_advice, deliver_job
from gateway.commands.job_progress import print_line, report_progress
from gateway.commands.option_types import SecondsRange, VisibleTextType, parse_pairs
from gateway.commands.quote_report import print_quote_response
from gateway.commands.shared_options import (
    ClientCommand,
    connection_options,
    output_options,
    to_connection,
    to_output_files,
)

STDIN = "-"
_URL = re.compile(r"(https?://|data:)", re.IGNORECASE)
# Options that are parameters of the API by the same name.
PARAMETERS = (
    *("model", "n", "size", "resolution", "aspect_ratio", "quality", "output_format", "background", "policy"),
    *("max_price", "max_cost", "max_seconds"),
)


@click.command(cls=ClientCommand, epilog=describe_exit_codes())
@click.argument("prompt")
@click.argument("more_images", nargs=-1, type=click.Path(), metavar="[IMAGE]...")
@click.option(
    "--edit", "images", type=click.Path(), multiple=True, metavar="IMAGE...", help="Edit these files or URLs."
)
@click.option(
    "--mask", type=click.Path(), metavar="IMAGE", help="PNG, transparent where the edit may change the first image."
)
@click.option("--model", help="A model or one of its aliases.  [default: the first]")
@click.option("-n", "n", type=click.IntRange(1, 10), default=1, show_default=True, help="Images.")
@click.option("--size", help="Exact pixels, like 1536x1024.")
@click.option("--resolution", help="Like 2k, instead of --size.")
@click.option("--aspect-ratio", help="Like 16:9, instead of --size.")
@click.option("--quality", help="Like low or high.  [default: the model's]")
@click.option("--format", "output_format", help="Like webp.  [default: by the name of the output file]")
@click.option("--background", help="Like opaque.")
@click.option("--policy", help="How to choose the seller, like cheapest or fast.  [default: your team's]")
@click.option("--max-price", metavar="USD", help="Maximum USD per image.")
@click.option("--max-cost", metavar="USD", help="Maximum USD for all images.")
@click.option("--max-seconds", type=SecondsRange(0, 86_400, min_open=True), help="Maximum expected seconds (p90).")
@click.option("--only", multiple=True, metavar="SELLER", help="Use only this seller; may be repeated.")
@click.option("--ignore", multiple=True, metavar="SELLER", help="Do not use this seller; may be repeated.")
@click.option("--label", "labels", multiple=True, help="A word to find the job with `jobs --label`; may be repeated.")
@click.option("--metadata", multiple=True, callback=parse_pairs, help="name=value, for rules; may be repeated.")
@click.option(
    "--idempotency-key",
    type=VisibleTextType("--idempotency-key"),
    metavar="KEY",
    help="Repeated commands with one key share one job.  [default: new]",
)
@click.option("--quote", "wants_quote", is_flag=True, help="Order nothing: print sellers, prices and expected times.")
@click.option("--no-wait", is_flag=True, help="Print the job's id and end; `image-gateway wait ID` gets the images.")
@output_options
@connection_options
def generate(prompt: str, more_images: tuple[str, ...], **options: Any) -> None:
    """Generate images from PROMPT, or edit images; write them to files and print their paths.

    Progress and errors go to standard error. A PROMPT or an image of - is read from standard input. Ctrl-C leaves the
    job running and says how to get its images.

    \b
    Examples:
      image-gateway generate "a lighthouse" --quality low -o cat.png
      image-gateway generate "a lighthouse at dawn" -n 3 --resolution 2k --aspect-ratio 16:9 -o out/
      image-gateway generate "make it winter" --edit cat.png --mask mask.png -o winter.png
      image-gateway generate "both in one room" --edit cat.png dog.png --policy cheapest --max-cost 0.20 --show
      image-gateway generate "a lighthouse" --resolution 4k --quote
      image-gateway generate - --json < prompt.txt | jq -r '.files[]'
      image-gateway wait "$(image-gateway generate "a lighthouse" --no-wait)" -o cat.png
    """
    output_files = to_output_files(options)
    images = _list_inputs(more_images, options)
    if [prompt, *images, options["mask"]].count(STDIN) > 1:
        raise click.UsageError("Only one of prompt, images and mask can be -: standard input is read once")
    body = build_request(_read_prompt(prompt), images, options, output_files.output_format)
    if options["wants_quote"]:
        client = JobClient(to_connection(options), print_line)
        return print_quote_response(client.fetch_quote(body), options["wants_json"])
    if not options["no_wait"]:
        output_files.require_writable(options["n"])
    idempotency_key = options["idempotency_key"] or f"cli-{uuid.uuid4()}"
    advice = ResumeAdvice(options, idempotency_key=idempotency_key)
    with add_resume_advice(advice):
        with report_progress(options["quiet"]) as reporter:
            client = advice.client = JobClient(to_connection(options), reporter.show_message)
            job = client.submit_job(body, idempotency_key)
            advice.job_id = job.report.id
            if options["no_wait"]:
                return click.echo(job.content.decode() if options["wants_json"] else job.report.id)
            job = client.wait_for_job(job, reporter.show_job)
        deliver_job(client, job, options, output_files)


def build_request(prompt: str, images: Sequence[str], options: dict[str, Any], default_format: str | None) -> Json:
    """Builds the body of `POST /v1/jobs`. Reads the files of an edit."""
    body = {name: options[name] for name in PARAMETERS if options[name] is not None}
    if default_format is not None:
        body.setdefault("output_format", default_format)
    sellers = {name: list(options[name]) for name in ("only", "ignore") if options[name]}
    body |= {"provider": sellers} if sellers else {}
    body |= {"metadata": options["metadata"]} if options["metadata"] else {}
    body |= {"labels": list(options["labels"])} if options["labels"] else {}
    if images:
        body |= {"operation": "edit", "image": [_read_input(image, "--edit") for image in images]}
        body |= {"mask": _read_input(options["mask"], "--mask")} if options["mask"] else {}
    return {"prompt": prompt, **body}


def _read_prompt(prompt: str) -> str:
    text = sys.stdin.read().strip() if prompt == STDIN else prompt
    if not text.strip():
        raise click.UsageError("The prompt is empty")
    return text


def _list_inputs(more_images: Iterable[str], options: dict[str, Any]) -> list[str]:
    """Lists the input images. Those after the first of --edit arrive as arguments after the prompt."""
    more_images = list(more_images)
    if more_images and not options["images"]:
        advice = "-q is --quiet, write --quality in full; " if options["quiet"] else ""
        message = f"Unexpected argument '{more_images[0]}': {advice}put the prompt in quotes, images after --edit"
        raise click.UsageError(message)
    if options["mask"] and not options["images"]:
        raise click.UsageError("--mask needs the image that it belongs to: add --edit IMAGE")
    return [*options["images"], *more_images]


def _read_input(image: str, option: str) -> Json:
    """Returns the image as the API expects it: a URL for the gateway to download, or the file's bytes."""
    if _URL.match(image):
        return {"image_url": image}
    try:
        with click.open_file(image, "rb") as file:
            data = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        message = f"{option}: {image} cannot be read: {error.strerror}. The prompt comes before the images"
        raise click.UsageError(message) from None
    if len(data) > MAX_BODY_BYTES:
        raise click.UsageError(f"{option}: {image} is larger than {MAX_BODY_BYTES >> 20} MiB, the limit of a request")
    if not data:
        raise click.UsageError(f"{option}: {image} is empty")
    return {"b64_json": base64.b64encode(data).decode()}

"""`image-gateway explain`: which sellers would get a request, at what price, and why others are excluded; or what
happened to a job."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from gateway.catalogue import Catalogue, Model
from gateway.commands.config_helpers import config_option, load_catalogue_for_planning, print_messages
from gateway.commands.job_report import explain_job
from gateway.commands.option_types import GatewayUrlType, JobIdType, SecondsRange, VisibleTextType, parse_pairs
from gateway.commands.plan_tables import print_plan
from gateway.commands.quote_report import explain_live
from gateway.config.value_types import Usd
from gateway.routing.decision_record import decode_decision_record, replay_plan
from gateway.routing.plan import (
    Plan,
    PlanInputs,
    RoutingError,
    RoutingLimits,
    RoutingQuery,
    make_plan,
    make_plan_with_policy,
)
from gateway.routing.plan_json import plan_to_json
from gateway.routing.requested_size import SizeRequest, resolve_target
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import Signals
from gateway.suggestions import did_you_mean
from providers.orders import Format, Operation


def list_enum_values(enum_type: type[StrEnum]) -> list[str]:
    """Lists the values of the enum: click would otherwise offer the names of its members."""
    return [member.value for member in enum_type]


class UsdType(click.ParamType[int]):
    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return Usd.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@config_option
@click.option("--operation", type=click.Choice(list_enum_values(Operation)), default="generate", show_default=True)
@click.option("--model", help="A model or one of its aliases.  [default: the first]")
@click.option("--size", help="Exact pixels, like 1536x1024.")
@click.option("--resolution", help="A resolution of the model, like 2k, instead of --size.")
@click.option("--aspect-ratio", help="Like 16:9; with --resolution.")
@click.option("--quality", default="auto", show_default=True, help="A quality of the model, like high.")
@click.option("--format", "output_format", type=click.Choice(list_enum_values(Format)), help="[default: the model's]")
@click.option("-n", "images", type=click.IntRange(1, 10), default=1, show_default=True, help="Images.")
@click.option(
    "--prompt", default="", help="The prompt; it affects the price if a seller bills by tokens.  [default: none]"
)
@click.option("--inputs", type=click.IntRange(1, 16), help="Number of input images of an edit.  [default: 1]")
@click.option("--mask", is_flag=True, help="Add a mask.")
@click.option("--team", help="The requesting team.")
@click.option("--policy", help="Use this policy; with --team, only if the team may choose it.")
@click.option(
    "--draw",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.5,
    help="The random number that a weighted policy uses.",
)
@click.option("--max-price", type=UsdType(), help="Maximum USD per image.")
@click.option("--max-cost", type=UsdType(), help="Maximum USD per request.")
@click.option("--max-seconds", type=SecondsRange(0, 86_400, min_open=True), help="Maximum expected seconds (p90).")
@click.option("--only", multiple=True, help="Use only this seller; may be repeated.")
@click.option("--ignore", multiple=True, help="Exclude this seller; may be repeated.")
@click.option("--metadata", multiple=True, callback=parse_pairs, help="name=value, for rules; may be repeated.")
@click.option(
    "--record", type=click.File("rb"), help="Plan the request of this decision record instead; -: standard input."
)
@click.option(
    "--live",
    type=GatewayUrlType(),
    metavar="URL",
    help="Ask the gateway at URL for its quote, instead of reading files.",
)
@click.option(
    "--job",
    type=JobIdType(),
    metavar="ID",
    help="Instead of a plan: the attempts of this job, and what their sellers said. With --live.",
)
@click.option(
    "--key",
    type=VisibleTextType("API key"),
    envvar="IGW_KEY",
    help="With --live: a team's key; with --job, of the job's team.  [env: IGW_KEY]",
)
@click.option("--json", "wants_json", is_flag=True, help="Print the plan, or the job, as JSON.")
def explain(folder: Path, wants_json: bool, **options: Any) -> None:
    """Show which sellers would get a request, in which order, at what price, and why others are excluded.

    Nothing is ordered. With --job, show what happened to a job.

    \b
    Examples:
      image-gateway explain --operation generate --resolution 4k --quality low -n 3 --team design
      image-gateway explain --operation edit --size 1536x1024 --mask --max-cost 0.50 --json
      IGW_KEY=igw_sandbox image-gateway explain --policy fast --live http://127.0.0.1:8080
      IGW_KEY=igw_sandbox image-gateway explain --job job_0abc --live http://127.0.0.1:8080
      image-gateway explain --record record.json
    """
    if options["job"] is not None:
        return explain_job(options["job"], options["live"], options["key"], wants_json)
    if options["live"] is not None:
        return explain_live(options, wants_json)
    errors = Console(stderr=True)
    catalogue = load_catalogue_for_planning(folder, errors)
    try:
        if options["record"]:
            plan = plan_record(catalogue, options["record"].read(), errors)
        else:
            plan = plan_query(catalogue, build_query(catalogue, options), {}, options["draw"])
    except RoutingError as error:
        raise click.UsageError(f"{error.param}: {error}") from error
    print_result(catalogue, plan, wants_json)
    raise SystemExit(0 if plan.ranked else 3)


def plan_record(catalogue: Catalogue, data: bytes, errors: Console) -> Plan:
    """Makes the plan of a decision record again. Warns if the files have changed since the recorded plan."""
    try:
        record = decode_decision_record(data.partition(b"\n")[0])
    except msgspec.MsgspecError as error:
        raise click.UsageError(f"--record: not a decision record ({error})") from None
    plan = replay_plan(record, catalogue)
    recorded, planned = [entry.seller for entry in record.ranked], [entry.candidate.seller for entry in plan.ranked]
    warnings = []
    if record.config_hash != catalogue.hash:
        warnings.append(f"the record has configuration {record.config_hash}; this plan uses {catalogue.hash}")
    if recorded != planned:
        warnings.append(f"the recorded plan was {', '.join(recorded)}")
    print_messages(errors, "warning", "yellow", warnings)
    return plan


def plan_query(catalogue: Catalogue, query: RoutingQuery, signals: Signals, draw: float) -> Plan:
    """Plans the query with any policy; with --team, only with a policy that the team may choose."""
    if query.policy is None or query.team is not None:
        return make_plan(catalogue, query, signals, draw)
    require_known("policy", [query.policy], catalogue.policies.policies)
    return make_plan_with_policy(catalogue, query, (query.policy, None), PlanInputs(signals, draw))


def print_result(catalogue: Catalogue, plan: Plan, wants_json: bool) -> None:
    if wants_json:
        click.echo(json.dumps(plan_to_json(catalogue, plan), indent=2, ensure_ascii=False))
    else:
        print_plan(Console(), catalogue, plan)


def build_query(catalogue: Catalogue, options: dict[str, Any]) -> RoutingQuery:
    limits = RoutingLimits(
        max_price=options["max_price"],
        max_cost=options["max_cost"],
        max_seconds=options["max_seconds"],
        only=options["only"] or None,
        ignore=options["ignore"],
    )
    team, policy = options["team"], options["policy"]
    require_known("team", [team] if team else [], catalogue.teams)
    require_known("seller", [*options["only"], *options["ignore"]], catalogue.sellers)
    return RoutingQuery(request=build_routing_request(catalogue, options), team=team, policy=policy, limits=limits)


def require_known(kind: str, names: Iterable[str], known_names: Iterable[str]) -> None:
    """Raises RoutingError for the first unknown name."""
    known_names = list(known_names)
    for name in names:
        if name not in known_names:
            raise RoutingError(kind, f"{kind} '{name}' not found{did_you_mean(name, known_names)}")


def build_routing_request(catalogue: Catalogue, options: dict[str, Any]) -> RoutingRequest:
    model = _resolve_model(catalogue, options["model"])
    operation = Operation(options["operation"])
    size_request = SizeRequest(
        size=options["size"], resolution=options["resolution"], aspect_ratio=options["aspect_ratio"]
    )
    target, has_explicit_size = resolve_target(model, operation, size_request)
    is_edit = operation is Operation.EDIT
    if not is_edit and (options["mask"] or options["inputs"]):
        raise RoutingError("operation", "only edits take input images and a mask: add --operation edit")
    if options["images"] > model.max_images:
        raise RoutingError("n", f"{model.name} makes {model.max_images} images at most")
    require_known("quality", [options["quality"]], ["auto", *model.qualities])
    require_known("format", [options["output_format"]] if options["output_format"] else [], model.formats)
    return RoutingRequest(
        operation=operation,
        model=model.name,
        n=options["images"],
        target=target,
        has_explicit_size=has_explicit_size,
        quality=model.quality if options["quality"] == "auto" else options["quality"],
        has_explicit_quality=options["quality"] != "auto",
        output_format=Format(options["output_format"]) if options["output_format"] else model.output_format,
        prompt_bytes=len(options["prompt"].encode(errors="surrogateescape")),
        input_count=(options["inputs"] or 1) if is_edit else 0,
        has_mask=options["mask"],
        metadata=options["metadata"],
    )


def _resolve_model(catalogue: Catalogue, name: str | None) -> Model:
    if name is None:
        return next(iter(catalogue.models.values()))
    require_known("model", [name], [*catalogue.models, *catalogue.aliases])
    return catalogue.models[catalogue.aliases.get(name, name)]

"""`image-gateway explain`: who would be asked for this request, at what price, and why nobody else."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gateway.catalogue import Catalogue, Model
from gateway.commands.configured import catalogue_for_planning, config_option, tell
from gateway.commands.live import told_by
from gateway.config.checking import did_you_mean
from gateway.config.values import Usd
from gateway.report import as_json, print_plan
from gateway.routing.plan import Limits, Plan, Question, RoutingError, plan, plan_by
from gateway.routing.signals import Signals
from gateway.routing.target import SizeWish, target_of
from providers.orders import Format, ImageRequest, Inline, Operation, Quality
from providers.sizes import Resolution

AN_INPUT = Inline(b"", "image/png", "")


def words(kind: type[StrEnum]) -> list[str]:
    """Its values: given an enumeration itself, click would offer the names."""
    return [member.value for member in kind]


class UsdType(click.ParamType[int]):
    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return Usd.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SecondsType(click.FloatRange):
    """Not so many that there is no number for them: nan would admit everybody without a word."""

    def __init__(self) -> None:
        super().__init__(min=0, max=86_400, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        return seconds if seconds == seconds else self.fail(f"{value!r} is no number of seconds", param, ctx)


def pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    if wrong := [value for value in values if "=" not in value]:
        raise click.BadParameter(f"{wrong[0]!r} is no name=value")
    return dict(value.split("=", 1) for value in values)


@click.command()
@config_option
@click.option("--operation", type=click.Choice(words(Operation)), default="generate", show_default=True)
@click.option("--model", help="A model or one of its aliases.  [default: the first]")
@click.option("--size", help="Exact pixels, like 1536x1024.")
@click.option("--resolution", type=click.Choice(words(Resolution), case_sensitive=False), help="Instead of --size.")
@click.option("--aspect-ratio", help="Like 16:9; with --resolution.")
@click.option("--quality", type=click.Choice([*words(Quality), "auto"]), default="auto", show_default=True)
@click.option("--format", "output_format", type=click.Choice(words(Format)), help="[default: the model's]")
@click.option("-n", "images", type=click.IntRange(1, 10), default=1, show_default=True, help="Images.")
@click.option("--prompt", default="", help="The prompt, which costs where a seller bills by tokens.  [default: none]")
@click.option("--inputs", type=click.IntRange(1, 16), help="Input images of an edit.  [default: 1]")
@click.option("--mask", is_flag=True, help="With a mask.")
@click.option("--team", help="Who asks.")
@click.option("--policy", help="By this policy; with --team, only if the team may choose it.")
@click.option("--draw", type=click.FloatRange(0, 1, max_open=True), default=0.5, help="The luck of a weighted policy.")
@click.option("--max-price", type=UsdType(), help="USD per image.")
@click.option("--max-cost", type=UsdType(), help="USD per request.")
@click.option("--max-seconds", type=SecondsType(), help="Against the expected p90.")
@click.option("--only", multiple=True, help="Only this seller; may be repeated.")
@click.option("--ignore", multiple=True, help="Not this seller; may be repeated.")
@click.option("--metadata", multiple=True, callback=pairs, help="name=value; may be repeated.")
@click.option("--live", metavar="URL", help="As the gateway running there plans: by what it has measured and expects.")
@click.option("--key", envvar="IGW_KEY", help="With --live: a team's key.  [env: IGW_KEY]")
@click.option("--json", "wants_json", is_flag=True, help="The plan as JSON.")
def explain(folder: Path, wants_json: bool, **asked: Any) -> None:
    """Show who would be asked for a request, in which order, at what price, and why nobody else. Buys nothing.

    \b
    Examples:
      image-gateway explain --operation generate --resolution 4k --quality low -n 3 --team design
      image-gateway explain --operation edit --size 1536x1024 --mask --max-cost 0.50 --json
      IGW_KEY=igw_sandbox image-gateway explain --policy fast --live http://127.0.0.1:8080
    """
    errors = Console(stderr=True)
    catalogue, signals = as_live(catalogue_for_planning(folder, errors), asked, errors)
    try:
        question = question_of(catalogue, asked)
        made = planned(catalogue, question, signals, asked["draw"])
    except RoutingError as error:
        raise click.UsageError(f"{error.param}: {error}") from error
    show(catalogue, made, wants_json)
    raise SystemExit(0 if made.ranked else 3)


def as_live(catalogue: Catalogue, asked: dict[str, Any], errors: Console) -> tuple[Catalogue, Signals]:
    """What is expected and known where `--live` says; without it, what the files say, and nothing."""
    if asked["live"] is None:
        return catalogue, {}
    told = told_by(asked["live"], asked["key"])
    if told.config != catalogue.hash:
        warning = f"the gateway runs configuration {told.config}, and this plan is made from {catalogue.hash}"
        tell(errors, "warning", "yellow", [warning])
    return told.as_there(catalogue), told.signals


def planned(catalogue: Catalogue, question: Question, signals: Signals, draw: float) -> Plan:
    """An operator may ask about any policy; that a team may choose it is asked only where a team is named."""
    if question.policy is None or question.team is not None:
        return plan(catalogue, question, signals, draw)
    known("policy", [question.policy], catalogue.policies.policies)
    return plan_by(catalogue, question, (question.policy, None), signals, draw)


def show(catalogue: Catalogue, made: Plan, wants_json: bool) -> None:
    if wants_json:
        click.echo(json.dumps(as_json(catalogue, made), indent=2, ensure_ascii=False))
    else:
        print_plan(Console(), catalogue, made)


def question_of(catalogue: Catalogue, asked: dict[str, Any]) -> Question:
    limits = Limits(
        max_price=asked["max_price"],
        max_cost=asked["max_cost"],
        max_seconds=asked["max_seconds"],
        only=asked["only"] or None,
        ignore=asked["ignore"],
    )
    team, policy = asked["team"], asked["policy"]
    known("team", [team] if team else [], catalogue.teams)
    known("seller", [*asked["only"], *asked["ignore"]], catalogue.sellers)
    return Question(request=request_of(catalogue, asked), team=team, policy=policy, limits=limits)


def known(kind: str, names: Iterable[str], there: Iterable[str]) -> None:
    """Nobody is helped by an answer to a question about somebody who does not exist."""
    there = list(there)
    for name in names:
        if name not in there:
            raise RoutingError(kind, f"there is no {kind} '{name}'{did_you_mean(name, there)}")


def request_of(catalogue: Catalogue, asked: dict[str, Any]) -> ImageRequest:
    model = _model(catalogue, asked["model"])
    operation = Operation(asked["operation"])
    wish = SizeWish(size=asked["size"], resolution=asked["resolution"], aspect_ratio=asked["aspect_ratio"])
    target, pixels_asked = target_of(model, operation, wish)
    is_edit = operation is Operation.EDIT
    if not is_edit and (asked["mask"] or asked["inputs"]):
        raise RoutingError("operation", "only edits take input images and a mask: add --operation edit")
    if asked["images"] > model.most_images:
        raise RoutingError("n", f"{model.name} makes {model.most_images} images at most")
    return ImageRequest(
        operation=operation,
        model=model.name,
        prompt=asked["prompt"],
        n=asked["images"],
        target=target,
        pixels_asked=pixels_asked,
        quality=model.quality if asked["quality"] == "auto" else Quality(asked["quality"]),
        quality_asked=asked["quality"] != "auto",
        output_format=Format(asked["output_format"]) if asked["output_format"] else model.output_format,
        sources=(AN_INPUT,) * (asked["inputs"] or 1) if is_edit else (),
        mask=AN_INPUT if asked["mask"] else None,
        metadata=asked["metadata"],
    )


def _model(catalogue: Catalogue, name: str | None) -> Model:
    if name is None:
        return next(iter(catalogue.models.values()))
    known("model", [name], [*catalogue.models, *catalogue.aliases])
    return catalogue.models[catalogue.aliases.get(name, name)]

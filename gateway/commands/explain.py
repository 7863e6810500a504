"""`image-gateway explain`: who would be asked for this request, at what price, and why nobody else."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gateway.catalogue import Catalogue, Model
from gateway.commands.configured import catalogue_for_planning, config_option
from gateway.config.values import Usd
from gateway.report import as_json, print_plan
from gateway.routing.plan import Limits, Plan, Question, RoutingError, plan
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
@click.option("--inputs", type=click.IntRange(1, 16), default=1, show_default=True, help="Input images of an edit.")
@click.option("--mask", is_flag=True, help="With a mask.")
@click.option("--team", help="Who asks.")
@click.option("--policy", help="Named by the caller, if the team may.")
@click.option("--max-price", type=UsdType(), help="USD per image.")
@click.option("--max-cost", type=UsdType(), help="USD per request.")
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), help="Against the expected p90.")
@click.option("--only", multiple=True, help="Only this seller; may be repeated.")
@click.option("--ignore", multiple=True, help="Not this seller; may be repeated.")
@click.option("--metadata", multiple=True, callback=pairs, help="name=value; may be repeated.")
@click.option("--json", "wants_json", is_flag=True, help="The plan as JSON.")
def explain(folder: Path, wants_json: bool, **asked: Any) -> None:
    """Show who would be asked for a request, in which order, at what price, and why nobody else. Buys nothing.

    \b
    Examples:
      image-gateway explain --operation generate --resolution 4k --quality low -n 3 --team design
      image-gateway explain --operation edit --size 1536x1024 --mask --max-cost 0.50 --json
    """
    errors = Console(stderr=True)
    catalogue = catalogue_for_planning(folder, errors)
    try:
        made = plan(catalogue, question_of(catalogue, asked), {})
    except RoutingError as error:
        raise click.UsageError(f"{error.param}: {error}") from error
    show(catalogue, made, wants_json)
    raise SystemExit(0 if made.ranked else 3)


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
    if team is not None and team not in catalogue.teams:
        raise RoutingError("team", f"there is no team '{team}'; there is {', '.join(catalogue.teams)}")
    return Question(request=request_of(catalogue, asked), team=team, policy=policy, limits=limits)


def request_of(catalogue: Catalogue, asked: dict[str, Any]) -> ImageRequest:
    model = _model(catalogue, asked["model"])
    operation = Operation(asked["operation"])
    wish = SizeWish(size=asked["size"], resolution=asked["resolution"], aspect_ratio=asked["aspect_ratio"])
    target, pixels_asked = target_of(model, operation, wish)
    is_edit = operation is Operation.EDIT
    if asked["images"] > model.most_images:
        raise RoutingError("n", f"{model.name} makes {model.most_images} images at most")
    return ImageRequest(
        operation=operation,
        model=model.name,
        prompt="",
        n=asked["images"],
        target=target,
        pixels_asked=pixels_asked,
        quality=model.quality if asked["quality"] == "auto" else Quality(asked["quality"]),
        quality_asked=asked["quality"] != "auto",
        output_format=Format(asked["output_format"]) if asked["output_format"] else model.output_format,
        sources=(AN_INPUT,) * asked["inputs"] if is_edit else (),
        mask=AN_INPUT if asked["mask"] and is_edit else None,
        metadata=asked["metadata"],
    )


def _model(catalogue: Catalogue, name: str | None) -> Model:
    found = catalogue.model(name) if name else next(iter(catalogue.models.values()))
    if found is None:
        raise RoutingError("model", f"there is no model '{name}'; there is {', '.join(catalogue.models)}")
    return found

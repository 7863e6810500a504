"""A small valid configuration for tests to change."""

from pathlib import Path

from gateway.config.catalogue_builder import ResolvedConfig, resolve_files, secrets_from_env
from gateway.config.loader import load
from providers import ADAPTERS

SAMPLE_FILES = {
    "gateway.yaml": """\
reload:
  watch: true
  every_seconds: 0.05
""",
    "models.yaml": """\
models:
  image-2:
    defaults: {size: 1024x1024, quality: high, output_format: png}
    aliases: [image-1, image-1.5]
    max_images: 4
""",
    "accounts.yaml": """\
accounts:
  runflow:
    base_url: https://runflow.example
    key: env:RUNFLOW_KEY
  runapi:
    base_url: https://runapi.example
    key: env:RUNAPI_KEY
    replay: trusted
""",
    "policies.yaml": """\
policies:
  cheapest:
    rank: cost
    within: 5%
  steady:
    rank: listed
    sellers: [by-shape, by-pixel]
  split:
    rank: weighted
    weights: {by-pixel: 3, by-shape: 1}
rules:
  - when: {team: design, resolution: 4k}
    use: steady
  - when: {operation: edit}
    use: split
default: cheapest
""",
    "teams.yaml": """\
teams:
  design:
    policies: [cheapest, steady]
    max_cost: "5.00"
""",
    "offers/by-pixel.yaml": """\
account: runflow
adapter: runflow_runs
offers:
  image-2:
    model: vendor/image-2
    images_per_order: 4
    quality: {selectable: [low, medium, high]}
    formats: [png]
    mask: true
    inputs: 16
    generate: {pixels: exact}
    edit: {pixels: unverified, presets: {square: 1024x1024}}
    seconds:
      low: {p50: 10, p90: 15}
      medium: {p50: 18, p90: 26}
      high: {p50: 28, p90: 45}
    prices:
      - price: "0.009"
        qualities: [low]
        source: price page
        date: 2026-07-23
      - price: "0.133"
        ceiling: "0.211"
        qualities: [medium, high]
        source: price page
        date: 2026-07-23
""",
    "offers/by-shape.yaml": """\
account: runapi
adapter: runapi
offers:
  image-2:
    model: image-2
    images_per_order: 1
    quality: {assumes: high}
    inputs: 16
    generate:
      ratios: [1:1, 16:9]
      unsold: [1:1@4k]
    edit:
      ratios: [1:1, 16:9]
    seconds: {any: {p50: 35, p90: 60}}
    prices:
      - price: "0.06"
        source: price page
        date: 2026-07-23
""",
}
SAMPLE_ENVIRON = {"RUNFLOW_KEY": "first key", "RUNAPI_KEY": "second key"}


def write_config(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Writes the sample configuration, or the given files, to a folder."""
    for name, text in (files or SAMPLE_FILES).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def resolve_config(folder: Path, environ: dict[str, str] = SAMPLE_ENVIRON) -> ResolvedConfig:
    return resolve_files(load(folder), secrets_from_env(environ), ADAPTERS)


def list_problems(folder: Path) -> list[str]:
    return [str(problem).removeprefix(f"{folder}/") for problem in resolve_config(folder).problems]

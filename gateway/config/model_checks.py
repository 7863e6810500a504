"""Checks of models: their aliases, their defaults, their sizes."""

from collections.abc import Iterator

from gateway.config.findings import Finding, check_name
from gateway.config.model_schema import ModelConfig
from gateway.config.schema import Config
from providers.image_sizes import SizeError


def check_models(config: Config) -> Iterator[Finding]:
    owners = dict.fromkeys(config.models.models, "a model")
    for name, model in config.models.models.items():
        for finding in (*_check_defaults(model), *_check_sizes(model), *_check_duplicates(model)):
            yield Finding(finding.message, ("models", name, *finding.path))
        for option in ("aliases", "dalle_aliases"):
            for index, alias in enumerate(getattr(model, option)):
                if alias in owners:
                    message = f"'{alias}' is already the name of {owners[alias]}"
                    yield Finding(message, ("models", name, option, index))
                owners.setdefault(alias, f"an alias of {name}")


def _check_defaults(model: ModelConfig) -> Iterator[Finding]:
    defaults = model.defaults
    for option, name, known in (
        ("quality", defaults.quality, model.qualities),
        ("output_format", defaults.output_format, model.formats),
        ("background", defaults.background, model.backgrounds),
    ):
        if name is not None:
            yield from check_name(option.replace("_", " "), str(name), list(map(str, known)), "defaults", option)


def _check_sizes(model: ModelConfig) -> Iterator[Finding]:
    law = model.sizes.build_law()
    try:
        law.target_from_pixels(*model.resolve_default_size())
    except SizeError as error:
        yield Finding(str(error), ("defaults", "size"))
    for index, size in enumerate(model.sizes.usual or ()):
        if problem := law.find_size_error(*size.pixels):
            yield Finding(f"size {size} is not possible: {problem}", ("sizes", "usual", index))


def _check_duplicates(model: ModelConfig) -> Iterator[Finding]:
    for option in ("qualities", "formats", "backgrounds"):
        names = [str(name) for name in getattr(model, option)]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Finding(f"'{name}' is listed twice", (option, index))

"""Turns request parameters into a routing query."""

from gateway.api.api_errors import ApiError
from gateway.api.input_images import InputImages
from gateway.api.parameter_table import AUTO, ImageParams
from gateway.api.shared_job_parameters import SellerFilter
from gateway.catalogue import Catalogue, Model
from gateway.money import parse_usd
from gateway.routing.plan import RoutingError, RoutingLimits, RoutingQuery
from gateway.routing.requested_size import SizeRequest, describe_ratio_change, resolve_target
from gateway.routing.routing_request import RoutingRequest
from gateway.suggestions import did_you_mean, end_sentence
from providers.orders import Format, Operation

TRANSPARENT = "transparent"


def to_routing_query(
    catalogue: Catalogue, params: ImageParams, team: str, operation: Operation, input_images: InputImages
) -> RoutingQuery:
    """Builds the routing query. Raises an ApiError that names the parameter that cannot be fulfilled."""
    inputs, mask = input_images.inputs, input_images.mask
    if operation is Operation.EDIT and not inputs:
        raise ApiError(400, "missing_required_parameter", "An edit needs at least one input image.", param="image")
    if operation is Operation.GENERATE and (inputs or mask):
        message = 'Only edits accept input images. Set operation to "edit".'
        raise ApiError(400, "invalid_value", message, param="image")
    model = resolve_model(catalogue, params.model)
    _require_within_limits(model, params, input_images)
    try:
        target, has_explicit_size = resolve_target(model, operation, _make_size_request(params, input_images))
    except RoutingError as error:
        raise to_invalid_value_error(error) from error
    output_format = _choose_word("output_format", params.output_format, model.output_format, model)
    background = _choose_word("background", params.background, model.background, model)
    if params.output_compression != 100 and output_format not in (Format.JPEG, Format.WEBP):
        message = f"Invalid value for 'output_compression': {output_format} is lossless. Omit it, or use jpeg or webp."
        raise ApiError(400, "invalid_value", message, param="output_compression")
    if background == TRANSPARENT and not Format(output_format).has_alpha:
        message = f"Invalid value for 'background': {output_format} has no transparency. Use png or webp."
        raise ApiError(400, "invalid_value", message, param="background")
    request = RoutingRequest(
        operation=operation,
        model=model.name,
        n=params.n,
        target=target,
        quality=_choose_word("quality", params.quality, model.quality, model),
        output_format=Format(output_format),
        has_explicit_size=has_explicit_size,
        has_explicit_quality=params.quality != AUTO,
        prompt_bytes=_count_prompt_bytes(params.prompt),
        input_count=len(inputs),
        has_mask=mask is not None,
        background=None if background == model.background else background,
        metadata=params.metadata,
    )
    _require_known_sellers(catalogue, params.provider)
    return RoutingQuery(request=request, team=team, policy=params.policy, limits=_to_routing_limits(params))


def list_query_warnings(query: RoutingQuery, params: ImageParams, input_images: InputImages) -> tuple[str, ...]:
    """Lists the warnings about parameters whose effect depends on the input images."""
    if not input_images.inputs:
        return ()
    ratio_change = describe_ratio_change(_make_size_request(params, input_images), query.request.target)
    return () if ratio_change is None else (ratio_change,)


def _make_size_request(params: ImageParams, input_images: InputImages) -> SizeRequest:
    headers = [image.header for image in input_images.inputs[:1]]
    return SizeRequest(
        size=params.size,
        resolution=params.resolution,
        aspect_ratio=params.aspect_ratio,
        first_input_size=(headers[0].width, headers[0].height) if headers else None,
    )


def _choose_word(param: str, value: str | None, default: str, model: Model) -> str:
    """Returns the value, or the model's default for `auto` and None. Raises ApiError unless the model has it."""
    known_values = {"quality": model.qualities, "output_format": model.formats, "background": model.backgrounds}[param]
    if value in (AUTO, None):
        return default
    if (word := str(value)) not in known_values:
        choices = ", ".join((AUTO, *known_values))
        message = f"Invalid value for '{param}': must be one of {choices} with '{model.name}'."
        raise ApiError(400, "invalid_value", message, param=param)
    return word


def _require_within_limits(model: Model, params: ImageParams, input_images: InputImages) -> None:
    limits, inputs = model.inputs, input_images.inputs
    if params.n > model.max_images:
        message = f"Invalid value for 'n': at most {model.max_images} images per request with '{model.name}'."
        raise ApiError(400, "invalid_value", message, param="n")
    if len(inputs) > limits.max_images:
        message = f"Too many input images: {len(inputs)}. '{model.name}' accepts at most {limits.max_images}."
        raise ApiError(400, "invalid_value", message, param="image")
    if input_images.mask is not None and not limits.has_mask:
        message = f"'{model.name}' accepts no mask. Omit it, or describe the area in the prompt."
        raise ApiError(400, "invalid_value", message, param="mask")
    if any(len(given.data) > limits.max_bytes for given in inputs):
        message = f"An input image is larger than the {limits.max_bytes >> 20} MiB of '{model.name}'. Compress it."
        raise ApiError(413, "image_too_large", message, param="image")


def resolve_model(catalogue: Catalogue, name: str | None) -> Model:
    """Finds a model by name or alias. Returns the first configured model if `name` is None."""
    if name is None:
        return next(iter(catalogue.models.values()))
    if (model := catalogue.find_model(name)) is None:
        known_names = ", ".join(sorted([*catalogue.models, *catalogue.aliases]))
        message = f"Model '{name[:60]}' not found. Available: {known_names}."
        raise ApiError(404, "model_not_found", message, param="model")
    return model


def to_invalid_value_error(error: RoutingError) -> ApiError:
    return ApiError(400, "invalid_value", f"{str(error)[:300]}.", param=error.param)


def _require_known_sellers(catalogue: Catalogue, seller_filter: SellerFilter) -> None:
    """Rejects unknown seller names. A misspelled name would otherwise be ignored silently, or exclude every seller."""
    if seller_filter.only == ():
        message = "'provider.only' is an empty list. Omit it, or name a seller."
        raise ApiError(400, "invalid_value", message, param="provider.only")
    for param, names in (("provider.only", seller_filter.only or ()), ("provider.ignore", seller_filter.ignore or ())):
        for name in names:
            if name not in catalogue.sellers:
                message = f"Seller '{name[:60]}' not found{did_you_mean(name, catalogue.sellers)}"
                raise ApiError(400, "invalid_value", end_sentence(message), param=param)


def _count_prompt_bytes(text: str) -> int:
    """Counts the bytes of the prompt in UTF-8. Raises ApiError if it cannot be encoded."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        message = "Invalid prompt: it contains an unpaired surrogate. Send valid Unicode text."
        raise ApiError(400, "invalid_value", message, param="prompt") from None


def _to_routing_limits(params: ImageParams) -> RoutingLimits:
    return RoutingLimits(
        max_price=parse_usd_param("max_price", params.max_price),
        max_cost=parse_usd_param("max_cost", params.max_cost),
        max_seconds=params.max_seconds,
        only=params.provider.only,
        ignore=params.provider.ignore or (),
    )


def parse_usd_param(name: str, amount: str | int | float | None) -> int | None:
    try:
        return None if amount is None else parse_usd(str(amount))
    except ValueError as error:
        raise ApiError(400, "invalid_value", f"Invalid value for '{name}': {error}.", param=name) from None

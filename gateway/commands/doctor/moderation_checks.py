"""Asks the servers of moderation hooks about a made-up request and a made-up image."""

import asyncio
import time
from base64 import b64decode
from collections import defaultdict
from hashlib import sha256
from urllib.parse import urlsplit

from gateway.catalogue import Catalogue, ModerationHook
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.config.moderation_schema import HOOK_NAMES
from gateway.engine.moderation import (
    ImageInQuestion,
    RequestInQuestion,
    build_image_question,
    build_request_question,
)
from gateway.engine.moderation_client import HookAnswer, HookQuestion, ModerationClient
from gateway.upstream.transport_pool import TransportPool
from gateway.upstream.webhook_client import WebhookClient

PROMPT, MODEL = "a lighthouse, in a question of image-gateway doctor", "doctor"
# One pixel.
IMAGE = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNwaDgAAAKEAYEYanSHAAAAAElFTkSuQmCC")
REMEDY = "Start the server of the hook, or correct `moderate`: docs/moderation.md says what it must answer."
CONSEQUENCES = {
    ("before", "closed"): "Requests are refused",
    ("before", "open"): "Requests are not moderated",
    ("after", "closed"): "Images that are paid for are withheld",
    ("after", "open"): "Images are not moderated",
}
MAX_NAMED_TEAMS = 3


async def check_moderation(context: DoctorContext) -> list[DoctorFinding]:
    """Asks each hook once, also if several teams have it. There is no finding without a hook."""
    if context.catalogue is None:
        return []
    pool = TransportPool()
    client = ModerationClient(WebhookClient(pool), time.time)
    try:
        checks = [_check_hook(client, hook, teams) for hook, teams in _group_teams(context.catalogue).items()]
        return list(await asyncio.gather(*checks))
    finally:
        await pool.aclose()


def _group_teams(catalogue: Catalogue) -> dict[ModerationHook, list[str]]:
    teams_by_hook: defaultdict[ModerationHook, list[str]] = defaultdict(list)
    for name in HOOK_NAMES:
        for team in catalogue.teams:
            if hook := catalogue.find_moderation_hook(name, team):
                teams_by_hook[hook].append(team)
    return teams_by_hook


async def _check_hook(client: ModerationClient, hook: ModerationHook, teams: list[str]) -> DoctorFinding:
    started_at = time.monotonic()
    answer = await client.ask(hook, _build_question(hook, teams[0]))
    milliseconds = round((time.monotonic() - started_at) * 1000)
    server, check = urlsplit(hook.config.url).netloc, f"moderation {hook.name}"
    if answer.is_valid:
        return DoctorFinding(check, Status.OK, f"{server} answered in {milliseconds} ms: {answer.outcome}")
    consequence = CONSEQUENCES[hook.name, hook.config.fail]
    message = f"{server} gives no valid answer: {_describe_failure(answer)}. {consequence}, of {_name_teams(teams)}."
    return DoctorFinding(check, Status.FAILED if hook.config.fail == "closed" else Status.WARNING, message, REMEDY)


def _build_question(hook: ModerationHook, team: str) -> HookQuestion:
    if hook.name == "before":
        return build_request_question(
            RequestInQuestion(
                team=team, prompt=PROMPT, model=MODEL, operation="generate", n=1, size="1024x1024", quality="low"
            )
        )
    return build_image_question(
        ImageInQuestion(
            team=team,
            job="job_doctor",
            index=0,
            prompt=PROMPT,
            model=MODEL,
            operation="generate",
            media_type="image/png",
            sha256=sha256(IMAGE).hexdigest(),
            data=IMAGE,
        )
    )


def _describe_failure(answer: HookAnswer) -> str:
    return answer.outcome if answer.status is None else f"{answer.outcome}, status {answer.status}"


def _name_teams(teams: list[str]) -> str:
    named = ", ".join(teams[:MAX_NAMED_TEAMS])
    return named if len(teams) <= MAX_NAMED_TEAMS else f"{named} and {len(teams) - MAX_NAMED_TEAMS} other teams"

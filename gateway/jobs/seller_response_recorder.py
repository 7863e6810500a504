"""What sellers said about a job's orders: kept for each attempt, within limits, since a stored job stays small."""

from msgspec.structs import replace

from gateway.jobs.job import AttemptResponse, Job, SellerResponse

MAX_MESSAGE_CHARACTERS = 500
# All messages of a job share this. When it is used up, a message is cut to the shorter length: a job for ten images may
# have thirty attempts, most of which fail alike.
MAX_JOB_CHARACTERS, MAX_LATER_MESSAGE_CHARACTERS = 1_000, 80
MAX_CODE_CHARACTERS = 80
MAX_NOTES = 4


def record_seller_response(job: Job, attempt_number: int, response: SellerResponse | None) -> Job:
    """Records the response for its attempt, cut to what is left for messages of this job. None changes nothing, and a
    deleted job keeps none.

    An attempt that delivered keeps only notes: a lost response, or another earlier one, was overtaken.
    """
    if job.is_deleted or (response is None and not job.seller_responses):
        return job
    others = tuple(entry for entry in job.seller_responses if entry.attempt != attempt_number)
    response = _cut_response(response, others) if response else job.get_seller_response(attempt_number)
    attempt = job.attempts[attempt_number - 1]
    if response and attempt.images_ready and attempt.fault is None:
        response = SellerResponse(notes=response.notes)
    if response is None or response == SellerResponse():
        return replace(job, seller_responses=others)
    entries = (*others, AttemptResponse(attempt_number, response))
    return replace(job, seller_responses=tuple(sorted(entries, key=lambda entry: entry.attempt)))


def _cut_response(response: SellerResponse, others: tuple[AttemptResponse, ...]) -> SellerResponse:
    remaining = MAX_JOB_CHARACTERS - sum(len(entry.response.message) for entry in others)
    max_characters = min(max(remaining, MAX_LATER_MESSAGE_CHARACTERS), MAX_MESSAGE_CHARACTERS)
    return replace(
        response,
        code=response.code[:MAX_CODE_CHARACTERS] if response.code else None,
        message=response.message[:max_characters],
        notes=response.notes[:MAX_NOTES],
    )

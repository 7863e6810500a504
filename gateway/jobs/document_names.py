"""The names of the documents that are stored with a job."""

from gateway.jobs.job import Job

REQUEST, PROMPT, TERMS, WEBHOOK = "request", "prompt", "order_terms", "webhook"


def is_image_document_name(name: str) -> bool:
    return name.startswith("image.")


def image_document_name(attempt_number: int, index: int) -> str:
    """Makes the name of an image document. It contains the attempt: two attempts may fetch the same image of a job, and
    only one of them is delivered."""
    return f"image.{attempt_number}.{index}"


def call_document_name(attempt_number: int) -> str:
    return f"call.{attempt_number}"


def list_document_names(job: Job) -> tuple[str, ...]:
    """Lists the names of all documents that the job may have."""
    images = [image_document_name(attempt.number, index) for attempt in job.attempts for index in attempt.images]
    return (REQUEST, TERMS, WEBHOOK, *list_prompt_document_names(job), *images)


def list_prompt_document_names(job: Job) -> tuple[str, ...]:
    """Lists the names of the documents that contain the prompt: itself, and the saved calls of orders."""
    return (PROMPT, *[call_document_name(attempt.number) for attempt in job.attempts])

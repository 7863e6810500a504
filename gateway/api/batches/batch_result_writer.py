"""Writes the results of lines into the output file and the error file of their batch, in OpenAI's form."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.base64_image_output import STREAMED_CONTENT, insert_images
from gateway.api.batches.batch_records import Batch, BatchError, OutputFile
from gateway.api.batches.file_content import ChunkWriter
from gateway.api.charge_sentences import SENTENCES_OF_FAILED_JOBS
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.serializers import ImagesView, serialize_images
from gateway.api.team_job_loader import load_stored_images
from gateway.assets.storage import ObjectNotFound, ObjectStream
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job
from providers.faults import ChargeStatus


class LineSummary(Struct, frozen=True, kw_only=True):
    """The fields of a line that are needed to write its result."""

    number: int
    custom_id: str
    wants_url: bool = False
    safety_identifier: str | None = None


class OutputWriter:
    """Appends to the output file or the error file of a batch."""

    def __init__(self, context: ApiContext, output: OutputFile, fence: int) -> None:
        self._output, self._lines = output, 0
        self._chunks = ChunkWriter(context.storage, output.id, fence)

    @property
    def size_bytes(self) -> int:
        return self._chunks.size_bytes

    async def write(self, data: bytes) -> None:
        await self._chunks.write(data)

    async def end_line(self) -> None:
        await self._chunks.write(b"\n")
        self._lines += 1

    async def flush(self) -> OutputFile:
        """Stores everything that was written."""
        await self._chunks.flush()
        chunks, size_bytes = self._output.chunks, self._chunks.size_bytes
        return replace(
            self._output,
            size_bytes=self._output.size_bytes + size_bytes,
            lines=self._output.lines + self._lines,
            chunks=(*chunks, self._chunks.run) if self._chunks.run.count else chunks,
        )


class ResultWriter:
    """Writes the results of one batch. Lines are written one after the other."""

    def __init__(self, context: ApiContext, batch: Batch) -> None:
        self._context, self._batch_id = context, batch.id
        self.output = OutputWriter(context, batch.output, batch.fence)
        self.errors = OutputWriter(context, batch.errors_output, batch.fence)
        self._flushed_bytes = 0

    @property
    def unsaved_bytes(self) -> int:
        return self.output.size_bytes + self.errors.size_bytes - self._flushed_bytes

    async def flush(self) -> tuple[OutputFile, OutputFile]:
        """Stores everything that was written. Returns the output file and the error file."""
        files = await self.output.flush(), await self.errors.flush()
        self._flushed_bytes = self.output.size_bytes + self.errors.size_bytes
        return files

    async def write_job(self, line: LineSummary, job: Job) -> bool:
        """Writes the response to a line whose job has ended. Returns whether the job has images."""
        if job.delivered_images:
            try:
                await self._write_images(line, job, await self._load_images(job))
            except ObjectNotFound:
                message = "The images were deleted before they were written to the file. Send the line again."
                await self.write_error(line, BatchError(code="images_deleted", message=message))
                return False
            return True
        error = build_failure_error(job, {})
        await self._write_response(line, job.id, error.status, error.build_openai_body(""))
        return False

    async def _load_images(self, job: Job) -> Sequence[StoredImage]:
        """Returns all delivered images. Raises ObjectNotFound if their job was deleted."""
        images = await load_stored_images(self._context, job)
        if len(images) < len(job.delivered_images):
            raise ObjectNotFound(f"the images of {job.id} were deleted")
        return images

    async def write_refusal(self, line: LineSummary, error: ApiError) -> None:
        """Writes the error of a line that became no job."""
        sentence = SENTENCES_OF_FAILED_JOBS[ChargeStatus.NOT_CHARGED]
        await self._write_response(line, None, error.status, error.build_openai_body(sentence))

    async def write_error(self, line: LineSummary, error: BatchError) -> None:
        """Writes why a line has no response."""
        body = {"code": error.code, "message": error.message}
        await self.errors.write(msgspec.json.encode(self._wrap(line, None, body)))
        await self.errors.end_line()

    async def _write_response(self, line: LineSummary, job_id: str | None, status: int, body: Any) -> None:
        response = {"status_code": status, "request_id": job_id, "body": body}
        await self.errors.write(msgspec.json.encode(self._wrap(line, response, None)))
        await self.errors.end_line()

    async def _write_images(self, line: LineSummary, job: Job, images: Sequence[StoredImage]) -> None:
        """Writes the line of a successful job. Its images are copied chunk by chunk."""
        streams: list[ObjectStream] = []
        try:
            for image in images if not line.wants_url else ():
                streams.append(await self._context.storage.open_stream(image.key))
            response = {"status_code": 200, "request_id": job.id, "body": self._serialize_images(line, job, images)}
            template = msgspec.json.encode(self._wrap(line, response, None))
            async for piece in insert_images(self._context.base64_encoder, template, streams):
                await self.output.write(piece)
            await self.output.end_line()
        finally:
            for stream in streams:
                stream.close()

    def _serialize_images(self, line: LineSummary, job: Job, images: Sequence[StoredImage]) -> dict[str, Any]:
        context = self._context
        view = ImagesView(
            job=job,
            images=images,
            contents={} if line.wants_url else {image.index: STREAMED_CONTENT for image in images},
            url_signer=context.url_signer if line.wants_url else None,
            now=context.wall_clock(),
            safety_identifier=line.safety_identifier,
            # The URLs are valid as long as the images are kept.
            url_ttl_seconds=job.retention.image_seconds,
        )
        return serialize_images(view)

    def _wrap(self, line: LineSummary, response: Any, error: Any) -> dict[str, Any]:
        request_id = f"batch_req_{self._batch_id.removeprefix('batch_')}_{line.number}"
        return {"id": request_id, "custom_id": line.custom_id, "response": response, "error": error}

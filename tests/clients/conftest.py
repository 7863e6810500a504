"""Fixtures for the clients that other people wrote."""

from collections.abc import Iterator

import openai
import pytest

from tests.clients.openai_python import sdk
from tests.vendors import Vendors


@pytest.fixture
def client(sandbox: Vendors) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK without retries, pointed at the sandbox."""
    with sdk(sandbox) as client:
        yield client

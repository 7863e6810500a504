"""No text of a request is in its decision record: no word of the prompt, name of a file, byte of an image or key."""

import random
import string

import pytest

from gateway.api.input_images import InputImages
from gateway.api.parameter_table import CreateJobRequest, InputImageRef
from gateway.api.routing_query_builder import to_routing_query
from gateway.api.shared_job_parameters import SellerFilter
from gateway.assets.image_header import ImageHeader
from gateway.catalogue import Catalogue
from gateway.engine.job_creation import InputImage
from gateway.routing.decision_record import PlannedRequest, encode_decision_record, make_decision_record
from gateway.routing.plan import make_plan
from providers.orders import Format, Operation
from tests.unit.routing.decision_generator import load_catalogue_from_files, make_large_catalogue

ALPHABETS = (string.ascii_letters, "äöüßéñ", "灯台の夕暮れ", "🦊🌊🗼")
REQUEST_COUNT = 150
CATALOGUES = {"files": load_catalogue_from_files(), "large": make_large_catalogue(seed=3)}


class PrivateRequest:
    """A request with random words in every place where a client can write."""

    def __init__(self, source: random.Random, catalogue: Catalogue) -> None:
        self._source = source
        self.words: list[str] = []
        team = source.choice(list(catalogue.teams))
        image = self._make_image()
        params = CreateJobRequest(
            prompt=" ".join(self._make_word() for _ in range(source.randint(1, 40))),
            user=self._make_word(),
            safety_identifier=self._make_word(),
            metadata={self._make_word(): self._make_word() for _ in range(3)} | {"tier": "gold"},
            operation=Operation.EDIT,
            image=InputImageRef(
                image_url=f"https://{self._make_word()}.example/{self._make_word()}?{self._make_word()}"
            ),
            policy=source.choice([None, *catalogue.teams[team].policies]),
            provider=SellerFilter(ignore=(source.choice(list(catalogue.sellers)),)),
        )
        inputs = InputImages(inputs=(image,), mask=image)
        query = to_routing_query(catalogue, params, team, Operation.EDIT, inputs)
        plan = make_plan(catalogue, query, {}, 0.5)
        planned = PlannedRequest(query=query, signals={}, draw=0.5, plan=plan, largest_input_edge=1_024)
        self.prompt_bytes = len(params.prompt.encode())
        self.record = make_decision_record(catalogue, planned, 1_795_000_000.0)

    def _make_image(self) -> InputImage:
        return InputImage(self._make_word().encode(), ImageHeader(format=Format.PNG, width=1_024, height=768))

    def _make_word(self) -> str:
        """Makes a word that is long enough not to be in a record by chance."""
        alphabet = self._source.choice(ALPHABETS)
        self.words.append("".join(self._source.choice(alphabet) for _ in range(8)))
        return self.words[-1]


@pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
def test_record_contains_no_text_of_the_request(catalogue: Catalogue) -> None:
    source = random.Random(7)  # noqa: S311 - repeatable, not secret
    for _ in range(REQUEST_COUNT):
        request = PrivateRequest(source, catalogue)
        text = encode_decision_record(request.record).decode()
        assert [word for word in request.words if word in text] == []
        secrets = [account.api_key.reveal() for account in catalogue.accounts.values() if account.api_key]
        assert [secret for secret in secrets if len(secret) > 1 and secret in text] == []
        assert "https://" not in text


@pytest.mark.parametrize("seed", range(20))
def test_record_has_the_length_of_the_prompt_in_bytes(seed: int) -> None:
    request = PrivateRequest(random.Random(seed), CATALOGUES["large"])  # noqa: S311 - repeatable, not secret
    recorded = request.record.query.request
    assert (recorded.prompt_bytes, recorded.input_count, recorded.has_mask) == (request.prompt_bytes, 1, True)
    assert dict(recorded.metadata) == {"tier": "gold"}

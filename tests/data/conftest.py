"""What the tests of the data share."""

import pytest
from transformers.utils import logging


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streaming(request) -> bool:
    return request.param


@pytest.fixture
def messages(caplog):
    """Gives what the package's logger has said."""
    logging.enable_propagation()
    yield lambda: list(caplog.messages)
    logging.disable_propagation()

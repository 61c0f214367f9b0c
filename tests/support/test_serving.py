"""What a server needs of a desk: which bundle makes vectors, who is an agent."""

from pathlib import Path

import pytest

from zhumo.bundle import Bundle
from zhumo.errors import ModelError, SourceError
from zhumo.support.serving import agents_among, encoder_among


def test_the_first_bundle_that_makes_vectors_is_the_desks(bundle: Bundle, tmp_path: Path) -> None:
    assert encoder_among([tmp_path, bundle.folder]) == bundle.folder
    with pytest.raises(ModelError, match=str(tmp_path)):
        encoder_among([tmp_path])


def test_agents_are_those_named_or_the_owner_of_the_only_key() -> None:
    assert agents_among([""], None) == [""]
    assert agents_among(["mei", "jo"], None) == []
    assert agents_among(["mei", "jo"], "jo, mei") == ["jo", "mei"]
    with pytest.raises(SourceError, match="mia") as caught:
        agents_among(["mei", "jo"], "mia")
    assert "mei" in str(caught.value)

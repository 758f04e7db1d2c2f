"""Who asked and who approved is what the annotations say, where somebody vouches for them, and nobody otherwise."""

from typing import Any

import pytest

from invocation_operator.reconcile.authors import APPROVED_BY, REQUESTED_BY, Authors

NAMES = {REQUESTED_BY: "alice", APPROVED_BY: "bob"}


def obj(annotations: dict[str, str] | None) -> dict[str, Any]:
    return {"metadata": {"name": "a"} | ({} if annotations is None else {"annotations": annotations})}


@pytest.mark.parametrize(
    ("vouched", "annotations", "expected"),
    [
        pytest.param(True, NAMES, ("alice", "bob"), id="vouched for"),
        pytest.param(False, NAMES, (None, None), id="anybody could have written it"),
        pytest.param(True, None, (None, None), id="made before there were policies"),
        pytest.param(True, {REQUESTED_BY: ""}, (None, None), id="nobody"),
        pytest.param(True, {REQUESTED_BY: "a" * 300}, ("a" * 256, None), id="as much as a status holds"),
    ],
)
def test_authors_are_named_where_they_are_vouched_for(
    vouched: bool, annotations: dict[str, str] | None, expected: tuple[str | None, str | None]
) -> None:
    authors = Authors(vouched)
    assert (authors.requester(obj(annotations)), authors.approver(obj(annotations))) == expected

"""The table of refusals is complete."""

from zpmeow.api.refusals import INTERNAL_ERROR, REFUSALS, RequestRefused, refusal_for
from zpmeow.domain.errors import DomainError, Unavailable


def test_every_error_has_a_line_of_its_own() -> None:
    """No refusal of the domain or of HTTP can reach a caller as a 500."""
    leaves = {kind for root in (DomainError, RequestRefused) for kind in _leaves(root)}

    assert leaves <= REFUSALS.keys()


def test_codes_name_one_refusal_each() -> None:
    """A program can tell all refusals apart by their code."""
    codes = [refusal.code for refusal in (*REFUSALS.values(), INTERNAL_ERROR)]

    assert len(codes) == len(set(codes))


def test_unknown_kind_of_unavailability_is_a_503() -> None:
    """Whatever else keeps the service from answering is worth another try."""
    assert refusal_for(Unavailable("later")).status == 503


def test_other_errors_are_internal() -> None:
    """What is not in the table is nobody's business."""
    assert refusal_for(RuntimeError("secret")) is INTERNAL_ERROR


def _leaves(kind: type[Exception]) -> set[type[Exception]]:
    children = kind.__subclasses__()
    return {leaf for child in children for leaf in _leaves(child)} if children else {kind}

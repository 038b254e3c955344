"""What the caller would like: media types by q-value (RFC 9110, 12.5.1), and whether its copy still holds (13.1.2)."""

from collections.abc import Sequence

_ANY = 0
_MAIN_TYPE = 1
_EXACT = 2


def preferred(accept: str | None, offers: Sequence[str]) -> str:
    """Return the offered media type that the caller prefers; of equals, and if none fits, the first.

    Args:
        accept: the Accept header, None if there was none.
        offers: media types without parameters, the server's favourite first.
    """
    if not accept:
        return offers[0]
    ranges = [_parse_range(part) for part in accept.lower().split(",")]
    best, best_quality = offers[0], 0.0
    for offer in offers:
        quality = _quality(offer, ranges)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def still_holds(if_none_match: str | None, etag: str) -> bool:
    """Tell whether the caller's copy is the one with this tag, by the weak comparison."""
    if if_none_match is None:
        return False
    return any(tag in ("*", etag) for tag in (part.strip().removeprefix("W/") for part in if_none_match.split(",")))


def _parse_range(text: str) -> tuple[str, float]:
    """Read `type/subtype;…;q=0.5`; a q that is not a number counts as 0, so that junk never wins."""
    media_range, *parameters = (part.strip() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return media_range, 0.0
            return media_range, quality if 0.0 <= quality <= 1.0 else 0.0
    return media_range, 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    main_type = offer.partition("/")[0] + "/*"
    found, quality = -1, 0.0
    for media_range, range_quality in ranges:
        if media_range == offer:
            rank = _EXACT
        elif media_range == main_type:
            rank = _MAIN_TYPE
        elif media_range == "*/*":
            rank = _ANY
        else:
            continue
        if rank > found or (rank == found and range_quality > quality):
            found, quality = rank, range_quality
    return quality

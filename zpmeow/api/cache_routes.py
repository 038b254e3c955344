"""What operators do with the cache."""

from zpmeow.api import presenting
from zpmeow.api.answers import Answer, success
from zpmeow.api.inputs import SetMode, WarmCache
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import CacheStatsShape, ModeShape, WarmedShape, WriteShape
from zpmeow.domain.errors import SessionNotFound
from zpmeow.services.access import Access


async def _invalidate(call: Call[None]) -> Answer:
    snapshot = await call.services.cache_control.invalidate(call.admission.target)
    return success(presenting.write(snapshot.session, "invalidate_cache", call.services.now))


async def _warm(call: Call[WarmCache]) -> Answer:
    entries = await call.services.cache_control.warm(call.input.limit)
    data: WarmedShape = {
        "action": "warm_cache",
        "status": "success",
        "timestamp": call.services.now(),
        "entries": entries,
    }
    return success(data)


async def _stats(call: Call[None]) -> Answer:
    state = await call.services.cache_control.state()
    return success({"cache": call.services.exposition.as_json(state)["cache"]})


async def _set_mode(call: Call[SetMode]) -> Answer:
    await call.services.cache_control.set_mode(call.input.mode)
    data: ModeShape = {
        "action": "set_cache_mode",
        "status": "success",
        "timestamp": call.services.now(),
        "mode": call.input.mode,
    }
    return success(data)


CACHE_ROUTES = (
    Route(
        method="DELETE",
        path="/cache/sessions/{sessionId}",
        handler=_invalidate,
        summary="Empty the cache of one session",
        access=Access.OPERATOR,
        data=WriteShape,
        errors=(SessionNotFound,),
    ),
    Route(
        method="POST",
        path="/cache/warm",
        handler=_warm,
        summary="Load the most recently changed sessions into the cache",
        access=Access.OPERATOR,
        body=WarmCache,
        body_may_be_missing=True,
        data=WarmedShape,
        within_budget=False,
    ),
    Route(
        method="GET",
        path="/cache/stats",
        handler=_stats,
        summary="Look at the cache",
        access=Access.OPERATOR,
        data=CacheStatsShape,
    ),
    Route(
        method="PUT",
        path="/cache/mode",
        handler=_set_mode,
        summary="Switch the cache on or off, in all processes",
        access=Access.OPERATOR,
        body=SetMode,
        data=ModeShape,
    ),
)

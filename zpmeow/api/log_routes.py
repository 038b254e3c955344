"""What operators do with the log."""

from zpmeow.api.answers import Answer, success
from zpmeow.api.inputs import SetLogLevel
from zpmeow.api.route import Call, Route
from zpmeow.api.shapes import LogLevelShape
from zpmeow.services.access import Access


async def _set_level(call: Call[SetLogLevel]) -> Answer:
    call.services.log_control.set_level(call.input.level)
    data: LogLevelShape = {
        "action": "set_log_level",
        "status": "success",
        "timestamp": call.services.now(),
        "level": call.input.level,
    }
    return success(data)


LOG_ROUTES = (
    Route(
        method="PUT",
        path="/log/level",
        handler=_set_level,
        summary="Let the log of this process tell more or less, until it ends",
        access=Access.OPERATOR,
        body=SetLogLevel,
        data=LogLevelShape,
    ),
)

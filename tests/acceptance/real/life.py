"""A whole life of a session, from its making to its end, through every route that has to do with sessions."""

from tests.acceptance.real.caller import ENGINE_KEY, OPERATOR_KEY, Caller, Reply

KNOWN_KEY = "own-key-of-the-session-0123456789abcdef"


async def live(
    caller: Caller,
    name: str,
    *,
    api_key: str = KNOWN_KEY,
    proxy_url: str = "socks5://user:password@proxy.test:1080",
    device_jid: str = "4915112345678@s.whatsapp.net",
    qr_code: str = "2@code",
) -> list[tuple[str, Reply]]:
    """Make a session, use it by its name and its key, and remove it; return each step and its answer."""
    answers: list[tuple[str, Reply]] = []

    async def step(method: str, path: str, body: object = None, *, key: str = OPERATOR_KEY) -> Reply:
        reply = await caller.call(method, path, body, key=key)
        answers.append((f"{method} {path}", reply))
        return reply

    webhook = {"url": "https://hooks.test/a", "events": ["message"]}
    created = await step(
        "POST",
        "/sessions/create",
        {"name": name, "api_key": api_key, "proxy_url": proxy_url, "webhook": webhook},
    )
    path = f"/sessions/{name}"
    for reader in (OPERATOR_KEY, api_key, ENGINE_KEY):
        for route in ("info", "info", "status"):
            await step("GET", f"{path}/{route}", key=reader)
    await step("POST", f"{path}/connect", key=api_key)
    await step("PUT", f"{path}/qr", {"qr_code": qr_code, "expires_in": 600}, key=ENGINE_KEY)
    await step("GET", f"{path}/qr", key=api_key)
    await step("PUT", f"{path}/credentials", {"device_jid": device_jid}, key=ENGINE_KEY)
    await step("PUT", f"{path}/status", {"status": "connected"}, key=ENGINE_KEY)
    await step("GET", f"{path}/credentials", key=api_key)
    await step("PUT", f"{path}/webhook", {"url": "https://hooks.test/b", "events": ["status"]}, key=api_key)
    await step("PATCH", path, {"name": f"{name}-renamed"})
    path = f"{path}-renamed"
    await step("GET", f"{path}/info")
    rotated = await step("POST", f"{path}/rotate-key", key=api_key)
    new_key = rotated.data["api_key"] if rotated.status == 200 else api_key
    await step("GET", f"{path}/info", key=new_key)
    await step("POST", f"{path}/disconnect", key=new_key)
    await step("DELETE", f"{path}/credentials", key=ENGINE_KEY)
    await step("GET", "/sessions/list")
    if created.status == 201:
        await step("DELETE", f"/sessions/{created.data['session']['id']}/delete")
    return answers


def refusals(answers: list[tuple[str, Reply]]) -> list[str]:
    """Return the steps that did not succeed."""
    return [f"{what}: {reply.status} {reply.body!r}" for what, reply in answers if reply.status not in {200, 201}]

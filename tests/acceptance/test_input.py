"""What is refused before any use case sees it: media types, sizes, JSON, schemas. Values are never repeated."""

import gzip
from collections.abc import AsyncIterator
from io import BytesIO

import pytest

from tests.acceptance.api import ENGINE_KEY, Api, Reply

JSON = {"Content-Type": "application/json"}
PATH = "/sessions/create"
BODY = b'{"name":"test-session"}'


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonx",
        "application/json, text/plain",
        "multipart/form-data; boundary=x",
    ],
)
async def test_body_answers_415_when_it_is_not_declared_as_json(api: Api, content_type: str | None) -> None:
    """Only application/json in UTF-8 is read, whatever the bytes look like."""
    reply = await api.call("POST", PATH, raw=BODY, headers={"Content-Type": content_type} if content_type else None)

    assert (reply.status, reply.error) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'],
)
async def test_body_is_read_when_declared_as_json(api: Api, content_type: str) -> None:
    """JSON may be declared in every form that means the same."""
    reply = await api.call("POST", PATH, raw=BODY, headers={"Content-Type": content_type})

    assert reply.status == 201


async def test_body_answers_415_when_compressed(api: Api) -> None:
    """A small body cannot unpack to a large one, because none is unpacked."""
    reply = await api.call("POST", PATH, raw=gzip.compress(BODY), headers={**JSON, "Content-Encoding": "gzip"})

    assert (reply.status, reply.error) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'name': 'x'}",
        b'{"name": NaN}',
        b'{"name": "abc"} x',
        b"\xef\xbb\xbf" + BODY,
        b'{"name": "\xff\xfe\xfd"}',
        b'{"name": "\\ud800abc"}',
        b"[" * 5000,
        b'{"name":"abc",}',
        b"1e999",
    ],
)
async def test_body_answers_400_when_it_is_not_json(api: Api, raw: bytes) -> None:
    """What RFC 8259 does not know is INVALID_JSON."""
    reply = await api.call("POST", PATH, raw=raw, headers=JSON)

    assert (reply.status, reply.error) == (400, "INVALID_JSON")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ([], ["body"]),
        ("text", ["body"]),
        ({}, ["name"]),
        ({"name": "ab"}, ["name"]),
        ({"name": "x" * 51}, ["name"]),
        ({"name": "with space"}, ["name"]),
        ({"name": "abc\n"}, ["name"]),
        ({"name": "abc\0"}, ["name"]),
        ({"name": "ábc"}, ["name"]),
        ({"name": 12345}, ["name"]),
        ({"name": None}, ["name"]),
        ({"name": "123e4567-e89b-12d3-a456-426614174000"}, ["name"]),
        ({"name": "123E4567-E89B-12D3-A456-426614174000"}, ["name"]),
        ({"name": "abc", "other": 1}, ["other"]),
        ({"name": "abc", "zpm_secret": 1}, ["(unknown field)"]),
        ({"name": "abc", "api_key": "x" * 31}, ["api_key"]),
        ({"name": "abc", "api_key": "x" * 101}, ["api_key"]),
        ({"name": "abc", "api_key": "zpm_" + "x" * 40}, ["api_key"]),
        ({"name": "abc", "api_key": "x" * 20 + " " + "x" * 20}, ["api_key"]),
        ({"name": "abc", "api_key": "é" * 40}, ["api_key"]),
        ({"name": "ab", "webhook": {"url": "ftp://x", "events": []}}, ["name", "webhook.url", "webhook.events"]),
        ({"name": "abc", "webhook": {"url": "http://h", "events": ["a", "a"]}}, ["webhook.events"]),
        ({"name": "abc", "webhook": {"url": "http://h", "events": ["a\0"]}}, ["webhook.events.0"]),
        ({"name": "abc", "webhook": {"url": "http://h"}}, ["webhook.events"]),
    ],
)
async def test_create_answers_422_naming_each_field_when_input_breaks_the_rules(
    api: Api, body: object, fields: list[str]
) -> None:
    """The refusal names all that is wrong at once."""
    reply = await api.call("POST", PATH, body)

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    told = reply.json["error"]["details"].split("; ")
    assert [line.partition(": ")[0] for line in told] == fields


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "https://:80",
        "ftp://host/",
        "javascript:alert(1)",
        "//host",
        "host",
        "http://user:pass@host/",
        "http://host:0",
        "http://host:65536",
        "http://host:http",
        "http://ho st/",
        "http://host/a b",
        "http://host/\n",
        "http://host/\x7f",
        "http://hóst/",
        "http://[::1",
        "http://[:::1]/",
        "http://[gg::1]/",
        "http://%41/",
        "http://" + "h" * 2050,
    ],
)
async def test_webhook_answers_422_when_its_url_is_not_http_with_a_host(api: Api, url: str) -> None:
    """Only http(s) URLs with a host, without credentials, are kept."""
    await api.create()

    reply = await api.call("PUT", "/sessions/test-session/webhook", {"url": url, "events": ["message"]})

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    assert reply.json["error"]["details"].startswith("url: ")


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://example.org",
        "http://my_service:8080/hook?a=b#c",
        "http://127.0.0.1:65535/",
        "http://[::1]:80/",
        "https://[2001:db8::8a2e:370:7334]/x",
    ],
)
async def test_webhook_is_kept_when_its_url_is_http_with_a_host(api: Api, url: str) -> None:
    """Names, addresses of both kinds, ports, paths and queries are all fine."""
    await api.create()

    reply = await api.call("PUT", "/sessions/test-session/webhook", {"url": url, "events": ["message"]})

    assert (reply.status, reply.data["webhook"]["url"]) == (200, url)


@pytest.mark.parametrize(
    "url",
    [
        "socks4://host",
        "socks5://:1080",
        "socks5://user@",
        "http://user:%00@host",
        "http://user:%ff@host",
        "http://user:%@host",
        "http://user:***@host",
        "http://user:***@[::1",
        "http://host/path",
    ],
)
async def test_create_answers_422_when_the_proxy_cannot_be_used(api: Api, url: str) -> None:
    """Neither a proxy without a host nor a masked password is kept, and neither is repeated."""
    reply = await api.call("POST", PATH, {"name": "test-session", "proxy_url": url})

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")
    assert url not in reply.body.decode()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host", "http://host"),
        ("https://host:3128/", "https://host:3128/"),
        ("socks5://user@host:1080", "socks5://user@host:1080"),
        ("socks5://user:p%40ss@host:1080", "socks5://user:***@host:1080"),
        ("http://us%C3%A9r:p%C3%A4ss@[::1]:1", "http://us%C3%A9r:***@[::1]:1"),
    ],
)
async def test_engine_reads_the_proxy_back_as_it_was_sent(api: Api, url: str, shown: str) -> None:
    """Taking the password out and putting it back changes nothing."""
    created = await api.create(proxy_url=url)

    engine = await api.call("GET", "/sessions/test-session/info", key=ENGINE_KEY)

    assert created["session"]["proxy_url"] == shown
    assert engine.data["session"]["proxy_url"] == url


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/sessions/test-session", {}),
        ("PATCH", "/sessions/test-session", {"name": None}),
        ("PATCH", "/sessions/test-session", {"api_key": "x" * 40}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": ""}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "x" * 2049}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "a\0b"}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "x", "expires_in": 0}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "x", "expires_in": 1.5}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "x", "expires_in": True}),
        ("PUT", "/sessions/test-session/qr", {"qr_code": "x", "expires_in": 2**63}),
        ("PUT", "/sessions/test-session/status", {"status": "sleeping"}),
        ("PUT", "/sessions/test-session/status", {"status": "error", "reason": "x" * 501}),
        ("PUT", "/sessions/test-session/status", {"status": "error", "reason": "a\0b"}),
        ("PUT", "/sessions/test-session/credentials", {"device_jid": "no-server"}),
        ("PUT", "/sessions/test-session/credentials", {"device_jid": "1@s.whatsapp.net\0"}),
        ("PUT", "/sessions/test-session/credentials", {"device_jid": "1" * 120 + "@s.whatsapp.net"}),
        ("PUT", "/cache/mode", {"mode": "off"}),
        ("PUT", "/log/level", {"level": "loud"}),
        ("PUT", "/log/level", {}),
        ("POST", "/cache/warm", {"limit": 0}),
        ("POST", "/cache/warm", {"limit": 10_001}),
    ],
)
async def test_write_answers_422_when_its_body_breaks_the_rules(api: Api, method: str, path: str, body: object) -> None:
    """Each body has its bounds, checked before anything is looked up."""
    reply = await api.call(method, path, body)

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=",
        "cursor=1",
        "status=other",
        "limit=1&limit=2",
        "other=1",
        "limit=%ff",
    ],
)
async def test_list_answers_422_when_its_query_breaks_the_rules(api: Api, query: str) -> None:
    """A query is held to its schema like a body."""
    reply = await api.call("GET", f"/sessions/list?{query}")

    assert (reply.status, reply.error) == (422, "VALIDATION_ERROR")


async def test_refusal_never_repeats_what_was_sent(api: Api) -> None:
    """A secret in a wrong place comes back nowhere."""
    secret = "s3cret" * 6
    bodies: list[object] = [
        {"name": secret, "api_key": "zpm_" + secret, "proxy_url": f"http://u:{secret}@", "webhook": secret},
        {"name": {secret: secret}, secret * 9: 1},
        secret,
    ]

    replies: list[Reply] = [await api.call("POST", PATH, body) for body in bodies]

    assert [reply.status for reply in replies] == [422, 422, 422]
    assert not any(secret in reply.body.decode() for reply in replies)


async def test_write_without_a_body_needs_no_content_type(api: Api) -> None:
    """`curl -X POST` works where nothing is to be sent."""
    await api.create()

    connected = await api.call("POST", "/sessions/test-session/connect")
    warmed = await api.call("POST", "/cache/warm")

    assert connected.status == 200
    assert (warmed.status, warmed.data["entries"]) == (200, 4)


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_answers_413_when_it_is_over_a_mebibyte(api: Api, *, chunked: bool) -> None:
    """The limit holds whether the size is announced or not; exactly a mebibyte is read."""

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b" " * 1024
        yield b" " * (size % 1024)

    async def send(size: int) -> int:
        data = pieces(size) if chunked else BytesIO(b" " * size)
        async with api.client.post(
            api.url + PATH, data=data, headers={**JSON, "X-API-Key": api.default_key or ""}
        ) as answer:
            return answer.status

    assert await send(1024 * 1024 + 1) == 413
    assert await send(1024 * 1024) == 400


async def test_unknown_session_is_told_after_the_body_was_judged(api: Api) -> None:
    """Of two mistakes the input's comes first."""
    invalid = await api.call("PUT", "/sessions/nobody/webhook", {"url": "x", "events": []})
    valid = await api.call("PUT", "/sessions/nobody/webhook", {"url": "http://h", "events": ["a"]})

    assert invalid.status == 422
    assert (valid.status, valid.error) == (404, "SESSION_NOT_FOUND")

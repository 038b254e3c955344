"""The documentation: complete, bundled, and strict about where its parts come from."""

import re

import jsonschema_rs
import pytest

from tests.acceptance.api import Api
from tests.acceptance.document import document


async def test_document_is_served_to_everybody(public_api: Api) -> None:
    """Tools can fetch the document without a key, and once only."""
    reply = await public_api.call("GET", "/openapi.json", key=None)
    again = await public_api.call("GET", "/openapi.json", key=None, headers={"If-None-Match": reply.headers["ETag"]})

    assert reply.status == 200
    assert reply.json == document()
    assert reply.json["openapi"] == "3.1.0"
    assert (again.status, again.body) == (304, b"")


async def test_page_loads_nothing_from_elsewhere(api: Api) -> None:
    """Each part of the page is served by the service itself, and no script stands in the page."""
    page = await api.call("GET", "/docs", key=None)
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())

    assert page.status == 200
    assert len(parts) >= 5
    assert not re.search(rb"<script>|<style|\son\w+=", page.body)
    for part in parts:
        reply = await api.call("GET", f"/{part}", key=None)
        assert reply.status == 200
        assert reply.body


@pytest.mark.parametrize("directive", ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"])
async def test_page_has_a_strict_policy(api: Api, directive: str) -> None:
    """Even a mistake in the page could not run or send anything elsewhere."""
    policy = (await api.call("GET", "/docs", key=None)).headers["Content-Security-Policy"]

    assert directive in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_schemas_of_the_document_are_schemas() -> None:
    """Every schema in the document is valid JSON Schema, and every reference leads somewhere."""
    whole = document()
    schemas = [*whole["components"]["schemas"].values()]
    for operation in (one for path in whole["paths"].values() for one in path.values()):
        contents = [response.get("content", {}) for response in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        schemas += [media["schema"] for content in contents for media in content.values()]
        schemas += [parameter["schema"] for parameter in operation["parameters"]]

    for schema in schemas:
        jsonschema_rs.Draft202012Validator({**schema, "components": whole["components"]})


def test_examples_of_the_document_keep_its_rules() -> None:
    """What the document shows as an example is accepted."""
    for name, schema in document()["components"]["schemas"].items():
        for field, rule in schema.get("properties", {}).items():
            for example in rule.get("examples", ()):
                assert jsonschema_rs.is_valid(rule, example), (name, field)

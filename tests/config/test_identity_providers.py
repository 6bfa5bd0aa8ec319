"""docs/identity-providers.md holds together with the program: its examples load, its error texts are ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aggregator.config.document import parse_document

from .loading import EXAMPLES, load, minimal

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "identity-providers.md").read_text()
# Each is the `auth` of a configuration, under the heading of its provider.
BLOCKS = dict(re.findall(r"^### ([^\n]+)\n[^#]*?```yaml\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))
HELP = re.findall(r"^\| `([^`]+)` \| ", TEXT.partition("## When it does not work")[2], re.MULTILINE)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_example_loads_without_a_warning(name: str) -> None:
    auth = parse_document(BLOCKS[name]).root["auth"]
    loaded = load(json.dumps(minimal(auth=auth)), {"OIDC_CLIENT_SECRET": "x"})
    assert loaded.warnings == ()
    assert loaded.config.auth is not None
    assert loaded.config.auth.issuer == auth["issuer"]


def test_every_provider_of_the_predecessors_documents_has_an_example_and_a_row() -> None:
    issuers = {path.stem: json.loads(path.read_text())["auth"]["issuer"] for path in EXAMPLES.glob("*.json")}
    described = [parse_document(block).root["auth"]["issuer"] for block in BLOCKS.values()]
    for name in ("google", "microsoft", "okta", "keycloak", "auth0", "authentik", "home-assistant"):
        known = re.escape(issuers[name]).replace("<tenant\\-id>", "[0-9-]+")
        assert any(re.fullmatch(known, issuer) for issuer in described), name
    for name in BLOCKS:
        assert f"| [{name}](#{name.lower().replace(' ', '-')}) |" in TEXT


@pytest.mark.parametrize("words", HELP)
def test_every_error_that_has_advice_is_one_of_ours(words: str) -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "aggregator").rglob("*.py")))
    assert words in re.sub(r'"\s*\n\s*f?"', "", source)


def test_there_is_advice_for_more_than_twenty_errors() -> None:
    assert len(HELP) > 20

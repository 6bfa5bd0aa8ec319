"""The schema and the documentation say what the program does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from aggregator.config.document import parse_document
from aggregator.config.schema import json_schema, render_schema

from .loading import EXAMPLES, KEY, load, minimal, problems_of, with_auth, with_top, with_upstream
from .test_load import NOT_YET

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def keys(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every key that holds a value: its path, its schema, whether it is required."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")]
    for name, schema in node["properties"].items():
        path = f"{prefix}.{name}" if prefix else name
        if "$ref" in schema:
            yield from keys(schema, path)
        elif "$ref" in schema.get("items", {}):
            yield from keys(schema["items"], f"{path}[]")
        else:
            yield path, schema, name in node.get("required", ())


KEYS = list(keys(SCHEMA))


def test_the_schema_in_the_docs_is_the_one_of_the_program() -> None:
    """After a change: ``mcp-aggregator schema > docs/config.schema.json``."""
    assert (DOCS / "config.schema.json").read_text() == render_schema()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("path", "schema", "required"), KEYS, ids=[path for path, _, _ in KEYS])
def test_every_key_stands_in_the_documentation(path: str, schema: dict[str, Any], required: bool) -> None:
    text = (DOCS / "configuration.md").read_text()
    description = schema["description"]
    if description.startswith("Not available yet. "):
        assert f"| `{path}` | {description.removeprefix('Not available yet. ')} |" in text
        return
    default = "required" if required else f"`{json.dumps(schema['default'])}`" if "default" in schema else "absent"
    row = re.search(rf"^\| `{re.escape(path)}` \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    assert row is not None, f"no row for {path}"
    assert row[1] == f"{default} | {description}"


def test_the_documentation_names_no_key_that_does_not_exist() -> None:
    named = re.findall(r"^\| `([A-Za-z$][A-Za-z.\[\]]*)` \|", (DOCS / "configuration.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(path for path, _, _ in KEYS)


def test_the_documentations_example_loads(tmp_path: Path) -> None:
    block, *_ = re.findall(r"```yaml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.DOTALL)
    (tmp_path / "key").write_text(KEY)
    text = block.replace("/run/secrets/aggregator", str(tmp_path / "key"))
    loaded = load(text, {"OIDC_CLIENT_SECRET": "x"})
    assert [upstream.name for upstream in loaded.config.upstreams] == ["gmail", "wiki"]
    assert loaded.warnings == ()
    VALIDATOR.validate(parse_document(block).root)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_editors_accept_the_examples(path: Path) -> None:
    VALIDATOR.validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        with_top(port="${PORT}", drain="${DRAIN}", issuerUrl="${URL}", secret={"file": "/x"}),
        with_upstream(enabled="${ON}", prefix="", instructions="${ON}", tools={"include": []}),
        with_upstream(headers={"X-Key": {"file": "/x"}, "X-Team": "${TEAM}"}, scopes=[], callbackPath="${PATH}"),
        with_upstream(auth={"type": "bearer", "token": {"file": "/x"}}),
        with_top(outbound={"proxy": {"file": "/x"}}, inputTimeout="${WAIT:-10m}"),
        with_auth(allow={"hd": "x", "groups": ["a"]}, clientSecret="${X}"),
    ],
)
def test_editors_accept_variables_and_files(text: str) -> None:
    VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        with_top(port=70000),
        with_top(prot=1),
        with_top(drain="25"),
        with_top(upstreams=[]),
        with_upstream(name="a b"),
        with_upstream(command=["x"]),
        with_upstream(auth={"type": "bearer"}),
        with_upstream(auth={"type": "header", "header": "X-Key"}),
        with_upstream(auth={"type": "command"}),
        with_top(upstreams=[{"name": "a"}]),
        with_upstream(command=[]),
        with_upstream(command="x"),
        with_upstream(idleStop="5"),
        with_top(listen={"transport": "sse"}),
        with_upstream(toolTimeout="5s"),
        with_auth(issuer="htps://x"),
        with_auth(clientSecret=""),
        *(text for text, path in NOT_YET if not path.startswith(("storage", "socket", "backends"))),
    ],
)
def test_editors_mark_what_the_program_refuses(text: str) -> None:
    assert problems_of(text)
    assert not VALIDATOR.is_valid(json.loads(text))


def test_every_default_is_a_value_that_the_file_may_hold() -> None:
    raw = minimal()
    for path, schema, _ in KEYS:
        if "default" in schema and "[]" not in path and not path.startswith("listen."):  # that has no 'auth' beside it
            place = raw
            *around, last = path.split(".")
            for step in around:
                place = place.setdefault(step, {})
            place[last] = schema["default"]
    assert load(json.dumps(raw)).config == load(json.dumps(minimal())).config


@pytest.mark.parametrize(("path", "schema"), [(path, schema) for path, schema, _ in KEYS if "examples" in schema])
def test_every_example_of_a_key_is_valid(path: str, schema: dict[str, Any]) -> None:
    for example in schema["examples"]:
        jsonschema.Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]}).validate(example)

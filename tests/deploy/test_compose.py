"""deploy/compose.yaml: valid, as strict as it says, and holding a configuration that the aggregator takes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from aggregator.errors import ConfigError
from tests.config.loading import KEY, load, problems_of

from .dockerfile import DEPLOY, ROOT, instructions

FILE = DEPLOY / "compose.yaml"
SECRETS = {"MCP_AGGREGATOR_SECRET": KEY, "OIDC_CLIENT_SECRET": "made-up"}


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def configuration() -> str:
    """What the container sees: Compose puts `$` where the file says `$$`."""
    text: str = services()["aggregator"]["environment"]["MCP_AGGREGATOR_CONFIG"]
    assert "$" not in text.replace("$$", ""), "a value that Compose would put in could change the configuration"
    return text.replace("$$", "$")


@pytest.mark.parametrize(("change", "code"), [("", 0), ("\n    retsart: always\n", 1)])
def test_it_follows_the_compose_specification(change: str, code: int) -> None:
    """And the schema is one that notices a misspelt key."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "--default-filetype",
    ]
    text = FILE.read_text().replace("\n    restart: unless-stopped\n", change or "\n    restart: unless-stopped\n")
    done = subprocess.run([*command, "yaml", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout


def test_its_configuration_is_good() -> None:
    loaded = load(configuration(), SECRETS)
    assert loaded.warnings == ()
    assert loaded.config.storage == "/data/store.sqlite"
    assert services()["aggregator"]["volumes"] == ["data:/data"]


def test_a_forgotten_env_file_is_said_by_name() -> None:
    """Compose then passes empty values, so that the demo needs none of them."""
    with pytest.raises(ConfigError):
        load(configuration(), dict.fromkeys(SECRETS, ""))
    assert {problem.path for problem in problems_of(configuration(), dict.fromkeys(SECRETS, ""))} == {
        "auth.clientSecret",
        "secret",
    }


def test_a_secret_cannot_change_the_configuration() -> None:
    loaded = load(configuration(), {**SECRETS, "OIDC_CLIENT_SECRET": 'x"\nallowedHosts: ["*"]\n# {['})
    assert loaded.config.allowed_hosts == ()


def test_every_service_is_without_privileges_and_writes_nowhere_else() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert "user" not in service, "the image's"


def test_it_builds_this_image_and_waits_for_the_drain() -> None:
    aggregator = services()["aggregator"]
    assert (FILE.parent / aggregator["build"]["context"]).resolve() == ROOT
    assert (ROOT / aggregator["build"]["dockerfile"]).is_file()
    assert f"VERSION={aggregator['image'].rpartition(':')[2]}" in instructions("ARG", stage=1)
    assert aggregator["stop_grace_period"] == "45s"
    assert all(port.startswith("127.0.0.1:") for port in aggregator["ports"])


def test_the_demo_starts_only_when_it_is_asked_for() -> None:
    assert services()["demo"]["profiles"] == ["demo"]
    assert services()["demo"]["command"] == ["demo"]

"""People's own accounts in a real Chromium, at real upstreams with OAuth servers, behind a real identity provider."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import queue
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import pytest
import trio

from tests.parts.processes import PATIENCE
from tests.parts.servers import open_fastmcp_resource, open_fastmcp_server, open_oidc_provider

from .asking import Asking, message, read_events, text_of
from .deployment import open_deployment

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.live

REDIRECT_URI = "http://127.0.0.1:9/callback"  # never requested: the browser's route answers
SHOTS = os.environ.get("SCREENSHOTS")  # a folder to put pictures of each page into, for whoever wants to look


@dataclass(frozen=True, slots=True)
class World:
    url: str
    mail: str
    notes: str
    issuer: str  # of the server where people log in for `files`

    def issued(self, upstream: str) -> dict[str, int]:
        """What the upstream's OAuth server has given out."""
        found: dict[str, int] = httpx2.get(
            upstream.removesuffix("/mcp") + "/people", trust_env=False, timeout=PATIENCE
        ).json()
        return found


@contextmanager
def _running(storage: Path) -> Iterator[World]:
    """Everything in a thread of its own: playwright blocks the test's."""
    told: queue.Queue[World | BaseException] = queue.Queue()
    stop: list[Any] = []

    async def main() -> None:
        end = trio.Event()
        stop.extend((trio.lowlevel.current_trio_token(), end))
        async with (
            open_fastmcp_server() as mail,
            open_fastmcp_server() as notes,
            open_oidc_provider(resources=True, refresh_tokens=True) as issuer,
            open_fastmcp_resource(issuer) as files,
            open_deployment({"mail": mail, "notes": notes, "files": files}, storage=str(storage)) as deployment,
        ):
            told.put(World(deployment.url, mail, notes, issuer))
            await end.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as exc:
            told.put(exc)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    world = told.get(timeout=5 * PATIENCE)
    if isinstance(world, BaseException):
        raise world
    try:
        yield world
    finally:
        token, end = stop
        token.run_sync_soon(end.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with _running(tmp_path_factory.mktemp("store") / "store.sqlite") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE * 1000
            )
        except sync_api.Error as exc:
            pytest.skip(f"no Chromium can be started here: {str(exc).splitlines()[0]}")
        yield browser
        browser.close()


@dataclass
class Someone:
    """A person with a browser and, once let in, an MCP client."""

    world: World
    name: str
    page: Any
    problems: list[str] = field(default_factory=list)
    token: str = ""

    def log_in(self) -> None:
        """What the identity provider asks: name, any password, and its own consent."""
        self.page.locator("input[name=login]").fill(self.name)
        self.page.locator("input[name=password]").fill("any password")
        self.page.get_by_role("button", name="Sign-in").click()
        self.page.get_by_role("button", name="Continue").click()

    def sign_in(self) -> None:
        self.page.goto(self.world.url + "/connections")
        self.log_in()
        self.page.get_by_role("heading", name="Connections").wait_for()

    def let_client_in(self, *, sign_in: bool = True) -> None:
        """Register an MCP client, consent in the browser, and get its access token."""
        metadata = {"redirect_uris": [REDIRECT_URI], "client_name": "Acme", "token_endpoint_auth_method": "none"}
        registered = httpx2.post(self.world.url + "/register", json=metadata, trust_env=False, timeout=PATIENCE)
        client = registered.json()["client_id"]
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {"client_id": client, "redirect_uri": REDIRECT_URI, "response_type": "code"}
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        answers: list[str] = []

        def answer(route: Any) -> None:
            answers.append(route.request.url)
            route.fulfill(status=200, content_type="text/html", body="<h1>Back at the client</h1>")

        self.page.route(REDIRECT_URI + "*", answer)
        self.page.goto(f"{self.world.url}/authorize?{urlencode(asked)}")
        if sign_in:
            self.log_in()
        self.page.get_by_role("button", name="Allow").click()
        self.page.get_by_role("heading", name="Back at the client").wait_for()
        code = dict(parse_qsl(urlsplit(answers[0]).query))["code"]
        form = {"grant_type": "authorization_code", "client_id": client, "code": code, "code_verifier": verifier}
        self.token = httpx2.post(self.world.url + "/token", data=form, trust_env=False, timeout=PATIENCE).json()[
            "access_token"
        ]

    def connect(self, upstream: str, account: str) -> None:
        self.page.goto(f"{self.world.url}/connect/{upstream}")
        self.page.get_by_role("button", name=f"Connect {upstream}").click()
        self.log_in_upstream(account)
        self.page.get_by_role("heading", name=f"{upstream} is connected").wait_for()

    def log_in_upstream(self, account: str) -> None:
        self.page.get_by_role("heading", name="Log in at the upstream").wait_for()
        self.page.get_by_label("Name").fill(account)
        self.page.get_by_role("button", name="Log in").click()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The message that answers one request of this person's client."""
        client = Asking(self.world.url + "/mcp", self.token, None)  # type: ignore[arg-type]  # only for its headers
        body = message(method, params, client.revision)
        answer = httpx2.post(
            client.url, content=json.dumps(body), headers=client.headers(body), trust_env=False, timeout=PATIENCE
        )
        return read_events(answer)[-1]

    def call(self, tool: str, **arguments: Any) -> tuple[str, bool]:
        """What a call says, and whether it is an error."""
        result = self.ask("tools/call", name=tool, arguments=arguments)["result"]
        return text_of(result), bool(result.get("isError"))

    def tools(self) -> set[str]:
        return {tool["name"] for tool in self.ask("tools/list")["result"]["tools"]}

    def hear(self, said: Any) -> None:
        """What the browser complains about on our own pages."""
        if said.location["url"].startswith(self.world.url):
            self.problems.append(said.text)

    def picture(self, name: str) -> None:
        """Each page in light, dark and narrow."""
        if SHOTS is None:
            return
        for scheme, width in (("light", 1000), ("dark", 1000), ("light", 360)):
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 800})
            self.page.screenshot(path=f"{SHOTS}/{name}-{scheme}-{width}.png", full_page=True)
        self.page.set_viewport_size({"width": 1280, "height": 720})


@pytest.fixture
def someone(world: World, chromium: Any) -> Iterator[Any]:
    contexts = []

    def make(name: str) -> Someone:
        context = chromium.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        made = Someone(world, name, context.new_page())
        made.page.on("console", made.hear)
        return made

    yield make
    for context in contexts:
        context.close()


@pytest.mark.requirement("UP9", "UP10")
def test_a_person_connects_calls_disconnects_and_is_asked_again(someone: Any) -> None:
    anna = someone("alice")
    anna.let_client_in()
    words, failed = anna.call("mail__whoami")
    assert failed
    assert f"{anna.world.url}/connect/mail" in words
    anna.page.goto(f"{anna.world.url}/connect/mail")  # no login: letting the client in was one
    anna.picture("connect")
    anna.page.get_by_role("button", name="Connect mail").click()
    anna.log_in_upstream("anna@mail")
    anna.page.get_by_role("heading", name="mail is connected").wait_for()
    anna.picture("connected")
    assert "alice" in anna.page.inner_text("main")
    assert {"mail__whoami", "mail__add"} <= anna.tools()
    assert anna.call("mail__whoami") == ("anna@mail", False)
    assert anna.call("mail__add", a=2, b=3) == ("5", False)
    anna.page.get_by_role("link", name="All connections").click()
    anna.page.get_by_role("heading", name="Connections").wait_for()
    anna.picture("connections")
    anna.page.get_by_role("button", name="Disconnect mail").click()
    anna.page.get_by_role("button", name="Connect mail").wait_for()
    assert anna.world.issued(anna.world.mail)["revoked"] >= 1
    words, failed = anna.call("mail__whoami")
    assert failed
    assert f"{anna.world.url}/connect/mail" in words
    anna.page.goto(anna.world.url + "/tools")
    assert "gateway__status" in anna.page.inner_text("main")
    anna.page.goto(anna.world.url + "/clients")
    anna.picture("clients")
    anna.page.get_by_role("button", name="Revoke Acme").click()
    anna.page.get_by_text("No MCP client is signed in as you").wait_for()
    assert anna.problems == []


@pytest.mark.requirement("UP10")
def test_two_people_in_two_browsers_never_cross(someone: Any) -> None:
    anna, ben = someone("anna"), someone("ben")
    for each in (anna, ben):
        each.let_client_in()
    anna.page.goto(f"{anna.world.url}/connect/mail")
    ben.page.goto(f"{ben.world.url}/connect/mail")
    anna.page.get_by_role("button", name="Connect mail").click()
    ben.page.get_by_role("button", name="Connect mail").click()
    ben.log_in_upstream("ben@mail")
    anna.log_in_upstream("anna@mail")
    for each in (anna, ben):
        each.page.get_by_role("heading", name="mail is connected").wait_for()
    ben.connect("notes", "ben@notes")
    anna.connect("notes", "anna@notes")
    for _ in range(5):
        for each in (anna, ben):
            for upstream in ("mail", "notes"):
                assert each.call(f"{upstream}__whoami") == (f"{each.name}@{upstream}", False)
    anna.page.goto(anna.world.url + "/connections")
    assert "ben" not in anna.page.inner_text("body")


@pytest.mark.requirement("UP4", "UP10")
def test_a_login_link_opened_by_somebody_else_fails_at_the_callback_and_no_code_leaves(someone: Any) -> None:
    mallory, victim = someone("mallory"), someone("victim")
    mallory.sign_in()
    victim.sign_in()
    issued = mallory.world.issued(mallory.world.mail)["code"]
    mallory.page.goto(f"{mallory.world.url}/connect/mail")
    mallory.page.get_by_role("button", name="Connect mail").click()
    mallory.page.get_by_role("heading", name="Log in at the upstream").wait_for()
    victim.page.goto(mallory.page.url)  # what mallory sends around
    victim.log_in_upstream("victim@mail")
    victim.page.get_by_role("heading", name="mail was not connected").wait_for()
    victim.picture("not-connected")
    assert mallory.world.issued(mallory.world.mail)["code"] == issued
    for each in (mallory, victim):
        each.page.goto(each.world.url + "/connections")
        assert each.page.get_by_role("button", name="Connect mail").is_visible()


@pytest.mark.requirement("UP3", "UP4", "UP6")
def test_an_upstream_behind_oidc_provider(someone: Any) -> None:
    """Another kind: the authorization server is elsewhere, sends `iss`, and its tokens are for one resource."""
    anna = someone("dora")
    anna.let_client_in()
    anna.page.goto(f"{anna.world.url}/connect/files")
    anna.page.get_by_role("button", name="Connect files").click()
    anna.page.wait_for_url(anna.world.issuer + "/**")
    anna.name = "dora-at-files"
    anna.log_in()
    anna.page.get_by_role("heading", name="files is connected").wait_for()
    assert anna.call("files__whoami") == ("dora-at-files", False)
    anna.page.goto(anna.world.url + "/connections")
    anna.page.get_by_role("button", name="Disconnect files").click()
    anna.page.get_by_role("button", name="Connect files").wait_for()
    assert anna.call("files__whoami")[1]


def test_the_form_leads_on_to_a_host_that_the_page_could_not_name(someone: Any) -> None:
    """`form-action` is 'self' on every page: a redirect to the authorization server would be blocked."""
    anna = someone("anna2")
    anna.sign_in()
    anna.connect("mail", "anna2@mail")
    anna.page.go_back()
    assert anna.page.url.startswith(anna.world.url) or "/login" in anna.page.url
    assert [said for said in anna.problems if "Content Security Policy" in said] == []


@pytest.mark.requirement("UP10")
def test_who_was_signed_out_at_the_upstream_signs_in_and_goes_on(someone: Any) -> None:
    anna = someone("erin")
    anna.sign_in()
    anna.page.goto(f"{anna.world.url}/connect/notes")
    anna.page.get_by_role("button", name="Connect notes").click()
    anna.page.get_by_role("heading", name="Log in at the upstream").wait_for()
    anna.page.context.clear_cookies(name="mcp-session")
    anna.log_in_upstream("erin@notes")
    anna.page.get_by_role("heading", name="notes is connected").wait_for()  # the identity provider still knows her


@pytest.mark.requirement("CO3")
def test_a_form_of_another_origin_on_the_same_host_disconnects_nothing(someone: Any) -> None:
    """For a browser another port is the same site: the cookie comes along, and `Sec-Fetch-Site` tells."""
    anna = someone("frank")
    anna.sign_in()
    anna.connect("mail", "frank@mail")
    anna.page.goto(anna.world.url + "/connections")
    csrf = anna.page.locator("input[name=csrf]").first.get_attribute("value")
    form = (
        f"<form method=post action='{anna.world.url}/connections/disconnect'><input name=upstream value=mail>"
        f"<input name=csrf value='{csrf}'><button>Win a prize</button></form>"
    )
    anna.page.route("http://127.0.0.1:9/*", lambda route: route.fulfill(content_type="text/html", body=form))
    anna.page.goto("http://127.0.0.1:9/prize")
    with anna.page.expect_response(anna.world.url + "/connections/disconnect") as answered:
        anna.page.get_by_role("button", name="Win a prize").click()
    assert "mcp-session" in answered.value.request.all_headers().get("cookie", "")
    assert answered.value.status == 403
    anna.page.goto(anna.world.url + "/connections")
    assert anna.page.get_by_role("button", name="Disconnect mail").is_visible()


def test_signing_out_everywhere_reaches_the_other_browser(someone: Any) -> None:
    here, there = someone("carol"), someone("carol")
    here.let_client_in()
    there.sign_in()
    here.page.goto(here.world.url + "/connections")
    here.page.get_by_role("button", name="Sign out everywhere").click()
    here.page.wait_for_url(here.world.url + "/")
    there.page.goto(there.world.url + "/clients")
    assert urlsplit(there.page.url).path != "/clients" or "No MCP client" in there.page.inner_text("main")
    answer = httpx2.post(
        here.world.url + "/mcp",
        headers={"authorization": f"Bearer {here.token}"},
        json={},
        trust_env=False,
        timeout=PATIENCE,
    )
    assert answer.status_code == 401

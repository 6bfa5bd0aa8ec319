"""Who a client id stands for."""

from __future__ import annotations

import pytest

from aggregator.errors import Unsealable
from aggregator.protocol.oauth.clients import Clients, DocumentNeeded
from aggregator.protocol.oauth.registration import Client

from .values import CALLBACK, KEYS, NOW, OTHER_KEYS, client, client_id

URL = "https://client.example/id.json"
SET_UP = Client(id="desktop", name="Desktop", redirect_uris=("cursor://x/cb",), source="configuration")


def test_a_client_of_the_configuration_is_known_by_its_id() -> None:
    clients = Clients(KEYS, {"desktop": SET_UP})
    assert clients.identify("desktop", now=NOW) is SET_UP
    assert clients.identify_by_id("desktop", now=NOW) is SET_UP
    for other in ("Desktop", "desktop ", ""):
        with pytest.raises(Unsealable):
            clients.identify(other, now=NOW)


@pytest.mark.requirement("CI1")
def test_a_url_needs_its_document_but_not_for_its_identity() -> None:
    found = Clients(KEYS).identify(URL, now=NOW)
    assert isinstance(found, DocumentNeeded)
    assert found.url.text == URL
    by_id = Clients(KEYS).identify_by_id(URL, now=NOW)
    assert (by_id.id, by_id.secret_hash, by_id.redirect_uris) == (URL, None, ())


@pytest.mark.requirement("CI1")
@pytest.mark.parametrize("url", ["https://client.example", "https://client.example/../id", "http://client.example/id"])
def test_a_url_that_is_no_client_id_stands_for_nobody(url: str) -> None:
    with pytest.raises(Unsealable):
        Clients(KEYS).identify(url, now=NOW)
    with pytest.raises(Unsealable):
        Clients(KEYS).identify_by_id(url, now=NOW)


def test_a_url_that_the_operator_has_set_up_needs_no_document() -> None:
    known = Client(id=URL, name="Known", redirect_uris=(CALLBACK,), source="configuration")
    assert Clients(KEYS, {URL: known}).identify(URL, now=NOW) is known


def test_where_no_documents_are_read_a_url_begins_nothing_and_ends_nothing() -> None:
    known = Client(id=URL + "2", name="Known", redirect_uris=(CALLBACK,), source="configuration")
    clients = Clients(KEYS, {known.id: known}, takes_documents=False)
    with pytest.raises(Unsealable, match="reads no metadata documents"):
        clients.identify(URL, now=NOW)
    assert clients.identify_by_id(URL, now=NOW).id == URL
    assert clients.identify(known.id, now=NOW) is known


@pytest.mark.requirement("MD3")
def test_a_registered_client_is_known_by_its_sealed_id() -> None:
    registered = client(CALLBACK)
    assert Clients(KEYS).identify(client_id(registered), now=NOW) == registered
    with pytest.raises(Unsealable):
        Clients(OTHER_KEYS).identify(client_id(registered), now=NOW)


@pytest.mark.requirement("AZ4")
def test_a_scheme_that_was_taken_off_the_list_takes_its_redirect_uris_along() -> None:
    registered = client_id(client(CALLBACK, "cursor://x/cb"))
    listed = Clients(KEYS, schemes=frozenset({"cursor"})).identify(registered, now=NOW)
    assert isinstance(listed, Client)
    assert listed.redirect_uris == (CALLBACK, "cursor://x/cb")
    later = Clients(KEYS).identify(registered, now=NOW)
    assert isinstance(later, Client)
    assert later.redirect_uris == (CALLBACK,)

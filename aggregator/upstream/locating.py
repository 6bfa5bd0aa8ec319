"""Whose a name or a URI is, also while some upstreams have not been listed yet: after a start, nobody has been.

A name belongs to the first upstream, in the order of configuration, that has it. So
whoever stands before the one that is known to have it is waited for while it is
being listed for the first time, once and for its `discoveryTimeout` at most; what
nobody lists is nobody's before all were asked. What is unknown even then is looked
for anew. This file does not know what is asked of the upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..protocol.catalog import Catalog, Route
from ..protocol.merged_prompts import PromptRoute
from ..protocol.names import may_publish
from ..protocol.uris import Place
from .listing import Listing
from .listings import Listings, View

_Found = TypeVar("_Found", Route, PromptRoute, Place)
_Claim = Callable[[Catalog], Route | PromptRoute | Place | None]  # of the upstream that says it has it


async def locate_tool(listings: Listings, view: View, name: str) -> tuple[Catalog, Route | None]:
    """Where the published `name` of a tool leads, or its own one, if a page of its upstream may call it so."""
    catalog = listings.catalog_at_hand(view)
    if catalog is None or (route := catalog.locate(name)) is None:
        may_have = _may_publish(listings, view, name)
        catalog = await _listed_once(listings, view, may_have, lambda known: known.routes.get(name))
        if name not in catalog.routes and not any(listing.config.prefix for listing in may_have):
            catalog = await _listed_once(listings, view, listings.listings_of(view), _nobody)
        if catalog.locate(name) is None:
            catalog = await _listed_anew(listings, view, may_have, lambda known: known.locate(name))
        route = catalog.locate(name)
    return catalog, route


async def locate_prompt(listings: Listings, view: View, name: str) -> tuple[Catalog, PromptRoute | None]:
    """Where the published `name` of a prompt leads."""

    def find(catalog: Catalog) -> PromptRoute | None:
        return catalog.locate_prompt(name)

    return await _located(listings, view, _may_publish(listings, view, name), find, find)


async def locate_uri(listings: Listings, view: View, uri: str) -> tuple[Catalog, Place | None]:
    """Where `uri` leads."""

    def find(catalog: Catalog) -> Place | None:
        return catalog.locate_uri(uri)

    return await _located(listings, view, _may_have(listings, view, uri), find, lambda known: known.uris.claimed(uri))


async def locate_template(listings: Listings, view: View, text: str) -> tuple[Catalog, Place | None]:
    """Where the published template `text` leads, or the URI: a completion may name either."""

    def find(catalog: Catalog) -> Place | None:
        return catalog.locate_template(text)

    def claimed(catalog: Catalog) -> Place | None:
        return catalog.templates.get(text) or catalog.uris.claimed(text)

    return await _located(listings, view, _may_have(listings, view, text), find, claimed)


async def _located(
    listings: Listings,
    view: View,
    may_have: list[Listing],
    find: Callable[[Catalog], _Found | None],
    claim: _Claim,
) -> tuple[Catalog, _Found | None]:
    catalog = listings.catalog_at_hand(view)
    if catalog is None or (found := find(catalog)) is None:
        catalog = await _listed_once(listings, view, may_have, claim)
        if find(catalog) is None:
            catalog = await _listed_anew(listings, view, may_have, find)
        found = find(catalog)
    return catalog, found


async def _listed_once(listings: Listings, view: View, candidates: Iterable[Listing], claim: _Claim) -> Catalog:
    """What is known when no candidate before the owner is being listed for the first time."""
    catalog = listings.known_catalog(view)
    for listing in candidates:
        if not _owns(listing, claim(catalog)) and (done := listing.first_time) is not None:
            await done.wait()
            catalog = listings.known_catalog(view)
        if _owns(listing, claim(catalog)):
            break
    return catalog


async def _listed_anew(listings: Listings, view: View, candidates: list[Listing], find: _Claim) -> Catalog:
    """The first catalog in which it is found, or the last that can be had: it may be new. Each candidate is listed at
    most every `SHORTEST_TTL` seconds, and none that failed is waited for."""
    catalog = listings.known_catalog(view)
    for listing in candidates:
        listing.refresh_soon()
    for listing in candidates:
        if listing.may_come and listing.running is not None:
            await listing.running.wait()
        if find(catalog := listings.known_catalog(view)) is not None:
            break
    return catalog


def _may_publish(listings: Listings, view: View, name: str) -> list[Listing]:
    return [listing for listing in listings.listings_of(view) if may_publish(listing.config.prefix, name)]


def _may_have(listings: Listings, view: View, uri: str) -> list[Listing]:
    """Nobody has to be asked about a URI that says whose it is."""
    named = listings.known_catalog(view).uris.named(uri)
    return listings.listings_of(view) if named is None else []


def _owns(listing: Listing, found: Route | PromptRoute | Place | None) -> bool:
    return found is not None and found.upstream == listing.upstream.name


def _nobody(catalog: Catalog) -> None:
    """Nothing that is known so far is enough."""

"""What all upstreams offer together, as lists, and the way back from a published name or URI to its upstream.

Pure: listings in, a frozen catalog out. It does not know how a listing was
obtained, how old it is, or who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .drafts import Draft, Route, is_for
from .jsonrpc import Json
from .links import Publish
from .merged_prompts import PromptRoute, merge_prompts
from .merged_resources import claim_uris, merge_resources
from .merged_tools import merge_tools
from .name_claims import NameClaims
from .paging import Item, Kind, Paged
from .source import Remarks, Source, under_own_titles
from .uris import Place, Uris

MAX_LINKS = 2000  # different URIs in one result; whatever follows stays as it came

__all__ = ["Catalog", "Route", "Source", "build_catalog"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The merged lists. `left_out` has one sentence per item that lost its name, was malformed or is not usable,
    `flagged` one per hidden character in what is listed and not ours to rewrite, and per item that had to be mended.
    `counts` are of tools.

    `for_models` are the tools without those that only pages of MCP Apps are to call; `in_frames` has the own names of
    tools by which such a page may call them.
    """

    lists: Mapping[Kind, Paged]
    for_models: Paged
    routes: Mapping[str, Route]
    in_frames: Mapping[str, Route]
    prompts: Mapping[str, PromptRoute]
    uris: Uris
    templates: Mapping[str, Place]
    counts: Mapping[str, int]
    left_out: Mapping[str, tuple[str, ...]]
    flagged: Mapping[str, tuple[str, ...]]

    @property
    def tools(self) -> tuple[Json, ...]:
        return self.lists["tools"].shown

    @property
    def size(self) -> int:
        """About how many bytes it holds by itself, for whoever bounds memory."""
        own = 0 if self.for_models is self.lists["tools"] else self.for_models.size
        return own + sum(paged.size for paged in self.lists.values())

    def locate(self, name: str) -> Route | None:
        """The one upstream that published exactly this name; else the one whose pages call a tool so."""
        return self.routes.get(name) or self.in_frames.get(name)

    def locate_prompt(self, name: str) -> PromptRoute | None:
        """The one upstream that published a prompt of exactly this name."""
        return self.prompts.get(name)

    def locate_uri(self, uri: str) -> Place | None:
        """The one upstream whose resource `uri` is."""
        return self.uris.locate(uri)

    def locate_template(self, text: str) -> Place | None:
        """The upstream that published the template, or whose resource the URI `text` is: a completion names either."""
        return self.templates.get(text) or self.uris.locate(text)

    def publisher(self, upstream: str) -> Publish | None:
        """How URIs in one result of this upstream are shown; None if each stays as it is."""
        if self.uris.leaves_alone(upstream):
            return None
        known: dict[str, str] = {}

        def publish(uri: str) -> str:
            if (shown := known.get(uri)) is None:
                if len(known) >= MAX_LINKS:
                    return uri
                known[uri] = shown = self.uris.publish_link(upstream, uri)
            return shown

        return publish

    def receiver(self, upstream: str) -> Publish | None:
        """The inverse of `publisher`, for what a client says to this upstream; None if nothing is shown otherwise."""
        return None if self.uris.leaves_alone(upstream) else lambda text: self.uris.own_of(upstream, text)

    def page(
        self,
        revision: str,
        cursor: str | None,
        *,
        ttl: int,
        server: Json,
        kind: Kind = "tools",
        pages: bool = True,
    ) -> tuple[bytes, bytes]:
        """One page of one list, see `Paged.page`; `pages` is whether the client can show those of MCP Apps."""
        paged = self.for_models if kind == "tools" and not pages else self.lists[kind]
        return paged.page(revision, cursor, ttl=ttl, server=server)


def build_catalog(sources: Iterable[Source], *, name_length: int, ours: tuple[Json, ...] = ()) -> Catalog:
    """Merge listings in the order of configuration; items keep their upstream's order, our tools come last."""
    known = under_own_titles(tuple([source if source.drafts is not None else _drafted(source) for source in sources]))
    remarks = Remarks()
    uris = claim_uris(known)
    tools = merge_tools(known, uris, NameClaims(known, name_length), remarks)
    prompts = merge_prompts(known, NameClaims(known, name_length), remarks)
    resources = merge_resources(known, uris, remarks)
    lists = (
        Paged("tools", (*tools.tools, *map(Item, ours))),
        Paged("prompts", tuple(map(Item, prompts.prompts))),
        Paged("resources", tuple(map(Item, resources.resources))),
        Paged("resourceTemplates", tuple(map(Item, resources.templates))),
    )
    for_models = tuple([item for item in lists[0].items if is_for(item.shown, "model")])
    every_tool = len(for_models) == len(lists[0].items)
    return Catalog(
        {paged.kind: paged for paged in lists},
        lists[0] if every_tool else Paged("tools", for_models),
        tools.routes,
        tools.in_frames,
        prompts.routes,
        uris,
        resources.made_by,
        tools.counts,
        remarks.left_out,
        remarks.flagged,
    )


def _drafted(source: Source) -> Source:
    return replace(source, drafts=tuple([Draft(tool) for tool in source.tools]))

"""The resources and resource templates of all upstreams as two lists. Whose a URI is `uris` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from .field_kinds import mended_fields, mended_resource
from .jsonrpc import Json
from .merged_prompts import with_origin
from .source import Remarks, Source
from .texts import clean_line, is_name
from .uris import MAX_TEMPLATES, MAX_URI, Claim, Place, Uris, build_uris, scheme_of


@dataclass(frozen=True, slots=True)
class MergedResources:
    """`made_by` leads from a published template to the upstream and its own text of it."""

    resources: tuple[Json, ...]
    templates: tuple[Json, ...]
    made_by: Mapping[str, Place]


def claim_uris(sources: Sequence[Source]) -> Uris:
    """Whose each URI is: what upstreams list, and the pages that their tools name."""
    return build_uris(
        Claim(
            source.upstream,
            tuple(uri for uri in (*_listed(source), *_pages(source)) if _is_usable(uri)),
            tuple(text for text in (item.get("uriTemplate") for item in source.templates) if isinstance(text, str)),
            offers=isinstance(source.capabilities.get("resources"), dict),
        )
        for source in sources
    )


def merge_resources(sources: Sequence[Source], uris: Uris, remarks: Remarks) -> MergedResources:
    """Merge in the order of configuration; both lists keep their upstream's order."""
    resources: list[Json] = []
    templates: list[Json] = []
    made_by: dict[str, Place] = {}
    for source in sources:
        seen: set[str] = set()
        for resource in source.resources:
            uri = resource.get("uri")
            if not _is_usable(uri):
                remarks.leave_out(source, f"a resource without a usable URI: {ascii(uri)[:60]}")
            elif uri in seen:
                remarks.leave_out(source, f"the resource {clean_line(uri, 128)}: it is listed twice")
            else:
                seen.add(uri)
                shown = _named(_mended("resource", uri, resource, source, remarks), source, uri)
                resources.append({**shown, "uri": uris.publish(source.upstream, uri)})
        for template in source.templates[:MAX_TEMPLATES]:
            text = template.get("uriTemplate")
            published = uris.publish_template(source.upstream, text) if is_name(text) else None
            if published is None or published in made_by:
                remarks.leave_out(source, f"a template that is unusable beside others: {ascii(text)[:60]}")
            else:
                made_by[published] = Place(source.upstream, str(text))
                shown = _named(_mended("template", str(text), template, source, remarks), source, str(text))
                templates.append({**shown, "uriTemplate": published})
        if (more := len(source.templates) - MAX_TEMPLATES) > 0:
            remarks.leave_out(source, f"{more} templates after the first {MAX_TEMPLATES}")
    return MergedResources(tuple(resources), tuple(templates), made_by)


def _mended(what: str, called: str, item: Json, source: Source, remarks: Remarks) -> Json:
    made = mended_resource(item)
    if made is not item and (told := mended_fields(item, made)):
        remarks.flag(source, f"the {what} {clean_line(called, 128)}: {told}")
    return made


def _named(item: Json, source: Source, uri: str) -> Json:
    """With a name, for want of which a typed client would fail the whole list."""
    name = item.get("name")
    return with_origin(item if isinstance(name, str) else {**item, "name": uri}, source, name if is_name(name) else uri)


def _listed(source: Source) -> list[Any]:
    return [resource.get("uri") for resource in source.resources]


def _pages(source: Source) -> list[str]:
    return [
        uri
        for draft in source.drafts or ()
        if draft.pages and draft.name is not None and draft.is_wanted(source.include, source.exclude)
        for uri in draft.pages
    ]


def _is_usable(uri: Any) -> TypeGuard[str]:
    return isinstance(uri, str) and len(uri) <= MAX_URI and scheme_of(uri) is not None

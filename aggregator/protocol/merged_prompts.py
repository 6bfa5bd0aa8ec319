"""The prompts of all upstreams as one list, named by the rules of tools in a name space of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .field_kinds import mended_fields, mended_prompt
from .jsonrpc import Json
from .name_claims import NameClaims, NameRefused
from .source import Remarks, Source
from .texts import clean_line, clean_text, hides_something, is_name, readable_schema, text_or_empty


@dataclass(frozen=True, slots=True)
class PromptRoute:
    """Where the published name of a prompt leads."""

    upstream: str
    prompt: str


@dataclass(frozen=True, slots=True)
class MergedPrompts:
    prompts: tuple[Json, ...]
    routes: Mapping[str, PromptRoute]


def merge_prompts(sources: Sequence[Source], names: NameClaims, remarks: Remarks) -> MergedPrompts:
    """Merge in the order of configuration; prompts keep their upstream's order."""
    prompts: list[Json] = []
    routes: dict[str, PromptRoute] = {}
    for source in sources:
        for prompt in source.prompts:
            name = prompt.get("name")
            if not is_name(name):
                remarks.leave_out(source, f"a prompt without a usable name: {ascii(name)[:40]}")
                continue
            try:
                published = names.claim(source, name)
            except NameRefused as exc:
                remarks.leave_out(source, f"the prompt {clean_line(name, 128)}: {clean_line(str(exc), 250)}")
                continue
            routes[published] = PromptRoute(source.upstream, name)
            mended = mended_prompt(prompt)
            if mended is not prompt and (told := mended_fields(prompt, mended)):
                remarks.flag(source, f"the prompt {clean_line(name, 128)}: {told}")
            shown = {**with_origin(mended, source, name), "name": published}
            if (arguments := mended.get("arguments")) and hides_something({"arguments": arguments}):
                remarks.flag(source, f"the prompt {clean_line(name, 128)}: hidden characters in its arguments")
                shown["arguments"] = readable_schema(arguments)
            prompts.append(shown)
    return MergedPrompts(tuple(prompts), routes)


def with_origin(item: Json, source: Source, name: str) -> Json:
    """A prompt, a resource or a template that says in its title where it comes from, and in its description if it has
    one, in characters that can be seen."""
    title = text_or_empty(item.get("title")) or name
    made = {**item, "title": clean_line(f"{source.display}: {title}")}
    if isinstance(own := item.get("name"), str):
        made["name"] = clean_line(own)
    if description := text_or_empty(item.get("description")):
        made["description"] = f"[{source.upstream}] {clean_text(description)}"
    return made

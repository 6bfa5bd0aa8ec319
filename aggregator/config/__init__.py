"""What the operator said: found, read, checked, and turned into values that cannot be wrong.

Reading order: `model` (the values), `vocabulary` and `upstream_keys` (every key),
`load` (the steps), then `find`, `document`, `expand`, `rules`, `build`, `warn`,
`report`; `mcpmux` is the other dialect. This room imports only `errors`, and
pydantic only inside `load_config`.
"""

from .load import Loaded, load_config

__all__ = ["Loaded", "load_config"]

"""What the operator said: found, read, checked, and turned into values that cannot be wrong.

Reading order: `model` (the values), `vocabulary` (every key), `load` (the
steps), then `find`, `document`, `expand`, `rules`, `warn`, `report`. This room
imports only `errors`, and pydantic only inside `load_config`.
"""

from .load import Loaded, load_config

__all__ = ["Loaded", "load_config"]

"""Who is behind us: what all upstreams have in common, and what they offer to whom. Each kind has its own room."""

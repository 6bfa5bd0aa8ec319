"""People's own accounts at upstreams: stored, judged, kept fresh, sent.

This room must not know how an authorization server is spoken to.
"""

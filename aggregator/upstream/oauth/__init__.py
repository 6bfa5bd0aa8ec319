"""Being an OAuth client of upstreams' authorization servers: found, registered with, asked for tokens.

This room must not know people, nor where tokens are kept.
"""

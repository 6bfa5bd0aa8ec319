"""A person's own pages: accounts connected at upstreams, clients that may act, tools that are there.

This room must not know the MCP endpoint.
"""

"""The authorization server towards MCP clients, and the session of a browser that logged in.

This room must not know the MCP endpoint, nor people's accounts at upstreams.
"""

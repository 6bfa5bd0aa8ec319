"""Real parts for the live tests: an identity provider, MCP servers and MCP clients that other people wrote.

`install` gets them, `servers` starts those that listen, `scripted_clients` runs
those that call, `browser` stands in for a person with a browser. Nothing here
knows our own package.
"""

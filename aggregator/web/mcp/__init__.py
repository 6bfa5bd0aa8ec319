"""The MCP endpoint: requests of clients, what they are asked meanwhile, and what they hear between calls.

This room must not know how a person logged in, nor any page.
"""

"""The organisation's identity provider. This room must not know MCP, nor our own tokens."""

"""MCP servers behind a URL, of every revision. This room must not know whose account a credential is."""

"""Who is behind us: MCP servers over HTTP, and the identity provider."""

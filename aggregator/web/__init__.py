"""Who is in front of us: the MCP endpoint, the OAuth endpoints, login and pages."""

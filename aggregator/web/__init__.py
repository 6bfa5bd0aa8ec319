"""Who is in front of us: the MCP endpoint, the OAuth endpoints, login and pages; local mode's door and its control."""

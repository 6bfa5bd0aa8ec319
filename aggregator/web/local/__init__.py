"""What local mode alone has: its one person, the daemon's control, and logins that are finished by hand.

This room must not know the MCP endpoint.
"""

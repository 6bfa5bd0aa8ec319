"""Sockets and the hosts at their other end: those that are configured, and those that nobody configured.

This room must not know MCP.
"""

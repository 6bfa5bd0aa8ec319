"""MCP servers and other programs that we start: their processes, pipes, restarts and output.

This room must not know HTTP.
"""

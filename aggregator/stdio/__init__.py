"""MCP over standard input and output: one client that started us, bridged to an endpoint that speaks streamable HTTP.

The endpoint is our own application in this process (``listen.transport: stdio``)
or a running server (`mcp-aggregator stdio`). Either way there is one
implementation of MCP, the endpoint's.
"""

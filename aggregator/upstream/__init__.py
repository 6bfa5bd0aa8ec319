"""Who is behind us: MCP servers, reached by URL or started as programs; people's accounts at them; identity providers.

Reading order: `peers` (what all upstreams have in common), `http` and `command` (the
two kinds), `credentials` and `authorized` (on whose behalf they are asked), `listing`
and `listings` (who offers what), `roster` (which there are); then `connections` and
`oauth_client` (people's own accounts), `identity_provider`.
"""

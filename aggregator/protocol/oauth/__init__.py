"""What our authorization server and resource server decide: values in, values out.

Reading order: `site`, `redirects`, `registration`, `client_document`, `clients`,
`authorization`, `sealed`, `token_request`, `issuing`, `challenge`, `metadata`;
`browser` for our own pages.
"""

"""What our authorization server and resource server decide: values in, values out.

Reading order: `site`, `redirects`, `registration`, `authorization`, `sealed`,
`token_request`, `issuing`, `challenge`, `metadata`.
"""

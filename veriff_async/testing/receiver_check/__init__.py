"""Cases for webhook endpoints in any language: what is sent, what is expected, and how to fix the endpoint."""

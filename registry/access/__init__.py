"""Who sends a request, and docker's token flow (distribution, docs/content/spec/auth).

authentication    from the Authorization header to a principal; what was verified is remembered for a short time
challenge         how to sign in, for who did not, or did in vain
scopes            what a client asks a token for, and what of it is granted
token_route       GET and POST /token
"""

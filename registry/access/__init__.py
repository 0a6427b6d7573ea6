"""Who sends a request, and docker's token flow (distribution, docs/content/spec/auth).

opening           everything below, opened over a store
accounts          accounts for commands, and the first administrator of a server
authentication    from the Authorization header to a principal; what was verified is remembered for a short time
passwords         name and password, of which nobody may try too many
proxied           who somebody is by the headers of a proxy that is trusted
issuers           documents of those who issue identities
browser           signing in with a browser, and a device by one
per_minute        how often one client may ask for something
site              which web pages may change something in somebody's name
challenge         how to sign in, for who did not, or did in vain
scopes            what a client asks a token for, and what of it is granted
token_route       GET and POST /token
oauth_form        the forms that it gets
rights            what the REST API asks of whoever sends a request
"""

"""What somebody shows instead of a password: how it is made, checked and taken back.

credential        what somebody has proved; loaded into a principal whenever that may have changed
secrets_text      texts that nobody guesses, and the hashes that are stored of them
signing_keys      the keys that registry tokens are signed with, shared by all processes and machines
key_text          the same as texts
registry_tokens   minutes: what docker gets from the token endpoint (JWT)
refresh_tokens    days: what docker keeps instead of a password
access_tokens     months: what people and CI make, name, limit and revoke
api_tokens        the same in conda-store's form, for clients that expect a JWT
tokens            all of them, opened over a store
errors            why a credential is not taken, or none is made
"""

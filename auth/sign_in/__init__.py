"""Who somebody is, by the word of an issuer that the settings trust.

settings        the provider and the proxy for people
workload_settings  the issuers for workloads
issuer_address  how both are written
identities      the accounts of people who have signed in elsewhere
provider        where people sign in with a browser
pending         sign-ins that have not come back from there yet
device          programs that sign in by a person's browser
sessions        browsers that are signed in
renewal         asking the provider again who they are
shared_issuers  issuers that sign for anybody, and what a rule for them has to say
workloads       CI jobs and pods: from a token of an issuer to a principal
rules           the language that says which workloads get which role
identity_token  whether a token (JWT) is what its issuer has signed, for us, and now
issuer_keys     an issuer's keys, loaded when they are first needed
key_set         keys as issuers publish them (JWKS)
"""

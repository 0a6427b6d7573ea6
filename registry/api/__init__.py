"""The REST API, one module a resource (conda-store's, and what is new beside it).

documents      answers, and bodies of requests
audit          the audit log
permissions    GET permission/: who the sender is
tokens         access tokens
"""

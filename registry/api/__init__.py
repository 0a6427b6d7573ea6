"""The REST API, one module a resource (conda-store's, and what is new beside it).

documents      answers, and bodies of requests
schemas        the shapes that are read and answered
description    the whole API in OpenAPI, and a page to try it
audit          the audit log
namespaces     which namespaces there are
permissions    GET permission/: who the sender is
tokens         access tokens
"""

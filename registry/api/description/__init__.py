"""The REST API as it is described to programs and people, from the route table.

document   the description: OpenAPI 3.1
handlers   GET /api/openapi.json, and GET /api/docs, a page to try it
tryout     that page
"""

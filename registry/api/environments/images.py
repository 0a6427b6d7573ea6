"""POST image/: a name on demand for what somebody wrote down."""

from __future__ import annotations

from aiohttp import web

from auth.permission import Permission
from auth.refusal import BUILD
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.inputs.reading import read_input_aside
from registry.access.rights import Found, check_entity
from registry.api.documents import answer_data, read_object
from registry.api.environments.finding import named_of
from registry.api.environments.specification import LARGEST, PARSED, read_written
from registry.kinds.refused import refusing_specification
from registry.observer import PRINCIPAL
from registry.parts import PARTS, host_of, room_for
from registry.rates import caller_of, count_request
from registry.trail import actor_of

STORE = "spec.store"


async def find_image(request: web.Request) -> Found[EnvironmentInput]:
    """What the body has. All images on demand are one thing to bindings."""
    entity = f"{request.app[PARTS].demand.root}/*"
    check_entity(request, Permission.ENVIRONMENT_CREATE, entity, BUILD)
    named = named_of(request)
    # as refusing it costs no less
    count_request(request)
    async with room_for(request, PARSED * min(request.content_length or LARGEST, LARGEST)):
        document = await read_object(request, ("specification", "is_lockfile"), LARGEST)
        text, is_lock = read_written(document)
        settings = named.wanted.settings.inputs_without_name
        wanted = await read_input_aside(text, settings, named.builder.pool, is_lock=is_lock)
    return Found(entity, wanted, is_counted=True)


async def post_image(request: web.Request, wanted: EnvironmentInput) -> web.StreamResponse:
    """The spec is solved and its lock stored, which is what the handle is found by; the image is built by a pull."""
    with refusing_specification():
        handle = await named_of(request).handles.make(wanted, caller_of(request))
    actor = actor_of(request, request[PRINCIPAL])
    request.app[PARTS].audit.note(actor.did(STORE, handle.repository, lock=handle.lock_key))
    place = f"{host_of(request)}/{handle.repository}"
    document = {
        "handle": handle.name,
        "reference": f"{place}:{handle.tag}",
        "pinned": f"{place}:{handle.lock_tag}",
        "lock": handle.lock_key,
        "digest": handle.digest,
    }
    warnings = {"message": "; ".join(wanted.warnings)} if wanted.warnings else {}
    return answer_data(document, **warnings)

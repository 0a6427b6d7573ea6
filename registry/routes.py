"""The HTTP side: the table of all routes, and the application made from it.

A row has the methods and path of a request, the permission that it requires, the handler, the form of errors, and one
line on what it does. The server does not start with a row that has no permission.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import JsonValue

from auth.permission import PUBLIC, SIGNED_IN, Permission
from registry.access.browser.pages import (
    answer_device,
    begin_at_provider,
    begin_device,
    finish_at_provider,
    log_in,
    log_out,
    show_device,
    show_login,
)
from registry.access.token_route import get_token, post_token
from registry.api import namespaces, schemas
from registry.api.audit import list_events
from registry.api.description.handlers import DESCRIPTION, Description, get_document, get_page
from registry.api.environments import schemas as shapes
from registry.api.environments import wanted_schemas as wanted
from registry.api.environments.alarms import list_alarms
from registry.api.environments.builds import cancel_build, delete_build, get_build, list_builds, put_build
from registry.api.environments.differences import get_difference
from registry.api.environments.environments import (
    delete_environment,
    get_environment,
    list_environments,
    put_environment,
)
from registry.api.environments.files import (
    BUILD_FILES,
    get_current_lock,
    get_events,
    get_image,
    get_installer,
    get_log,
    sends,
    type_of,
)
from registry.api.environments.finding import find_build, find_environment
from registry.api.environments.images import find_image, post_image
from registry.api.environments.packages import list_packages as list_locked_packages
from registry.api.environments.planning import find_plan, post_solve, solve_specification
from registry.api.environments.settings import (
    get_environment_settings,
    get_settings,
    put_environment_settings,
    put_settings,
)
from registry.api.environments.specification import find_specification, post_specification
from registry.api.environments.watched import list_watched
from registry.api.packages import list_channels, list_packages
from registry.api.permissions import get_permission
from registry.api.status import get_usage, get_version
from registry.api.tokens import list_tokens, make_token, revoke_token
from registry.contract import BYTES, EVENTS, HTML, JSON, TEXT, YAML, data, fields, listing, message, raw
from registry.dispatch import (
    FOLDERS,
    READ_METHODS,
    AccountRoute,
    EntityRoute,
    RepositoryRoute,
    Route,
    RoutesInvalid,
    Row,
    check_routes,
    dispatch_folder,
    dispatch_path,
    find_folder,
)
from registry.files import get_file
from registry.health import healthz, readyz
from registry.http.budget import UploadBudget
from registry.http.folder import Folder
from registry.http.intake import leave_to_reader
from registry.http.memory import Memory
from registry.http.settings import HttpSettings
from registry.http.streams import Streams
from registry.kinds.all_kinds import ALL_KINDS
from registry.kinds.kind import KINDS, Kinds, MakeKind
from registry.logs.request_log import RequestLog
from registry.observer import Observer
from registry.parts import CONNECTIONS, CORS, MEMORY, PARTS, PROXIES, SETTINGS, STOPPING, STREAMS, UPLOAD_BUDGET, Parts
from registry.peers.connections import Connections
from registry.peers.cors import Cors
from registry.peers.forwarded import Proxies
from registry.rates import RATES, open_rates
from registry.ui import check_interface, get_configuration, get_script, get_style, show_ui
from registry.v2 import blobs, lists, manifests, uploads
from registry.welcome import welcome

_READ, _CREATE, _DELETE = Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_DELETE

_MANIFEST = "/v2/{name}/manifests/{reference}"
_BLOB = "/v2/{name}/blobs/{digest}"
_UPLOADS = "/v2/{name}/blobs/uploads/"
_UPLOAD = "/v2/{name}/blobs/uploads/{session}"
API = "/api/"
PREFIXED = (API, "/login", "/logout", "/ui")
"""The beginnings of paths that are below the setting `api_prefix` as well."""
_TOKENS = "/api/v1/token/"
_AUDIT = "/api/v1/audit/"
_ENVIRONMENT = "/api/v1/environment/{namespace}/{environment}/"
_BUILD = "/api/v1/build/{build}/"
_ITS = "{namespace}/{environment}"
_NAMESPACE = "/api/v1/namespace/{namespace}/"
_ONE = "{namespace}"
_SETTING = "/api/v1/setting/"
_SET = data(wanted.Settings, message=str, layers=wanted.SettingLayers)
_BUILDS = "the environment of the build"

# fmt: off
# a table is read by its columns
ROUTES: tuple[Row, ...] = (
    Route(READ_METHODS, "/", PUBLIC, welcome, "page", "say what this is and what to ask it for"),
    Route(READ_METHODS, "/healthz", PUBLIC, healthz, "rest", "say that the process answers", probe=True),
    Route(READ_METHODS, "/readyz", PUBLIC, readyz, "rest", "say whether everything works that is needed", probe=True),
    Route(("GET",), "/login", PUBLIC, show_login, "page", "ask for name and password, or where else to sign in"),
    Route(("POST",), "/login", PUBLIC, log_in, "page", "sign a browser in with name and password"),
    Route(("GET",), "/login/provider", PUBLIC, begin_at_provider, "page", "sign a browser in at the provider"),
    Route(("GET",), "/login/callback", PUBLIC, finish_at_provider, "page", "finish a sign-in at the provider"),
    Route(("POST",), "/device/code", PUBLIC, begin_device, "token", "give a program codes to sign in with"),
    Route(("GET",), "/device", PUBLIC, show_device, "page", "ask for the code that a program shows"),
    Route(READ_METHODS, "/v2/", PUBLIC, lists.get_base, "distribution", "say which API this is", "base",
          uncounted=True),
    Route(READ_METHODS, "/v2/_catalog", _READ, lists.get_catalog, "distribution", "list repositories", "catalog",
          lists=True),
    RepositoryRoute(READ_METHODS, "/v2/{name}/tags/list", _READ, lists.get_tags, "distribution",
                    "list the tags of a repository", "tags"),
    RepositoryRoute(READ_METHODS, "/v2/{name}/referrers/{digest}", _READ, lists.get_referrers, "distribution",
                    "list what refers to a manifest", "referrers"),
    RepositoryRoute(READ_METHODS, _MANIFEST, _READ, manifests.get_manifest, "distribution",
                    "pull a manifest; an image on demand is built", "manifests"),
    RepositoryRoute(("PUT",), _MANIFEST, _CREATE, manifests.put_manifest, "distribution",
                    "push a manifest", "manifests"),
    RepositoryRoute(("DELETE",), _MANIFEST, _DELETE, manifests.delete_manifest, "distribution",
                    "delete a manifest or a tag", "manifests"),
    RepositoryRoute(READ_METHODS, _BLOB, _READ, blobs.get_blob, "distribution", "pull a blob", "blobs"),
    RepositoryRoute(("DELETE",), _BLOB, _DELETE, blobs.delete_blob, "distribution", "delete a blob", "blobs"),
    RepositoryRoute(("POST",), _UPLOADS, _CREATE, uploads.open_upload, "distribution",
                    "begin to push a blob, push a whole one, or mount one", "uploads"),
    RepositoryRoute(("GET",), _UPLOAD, _CREATE, uploads.get_upload, "distribution",
                    "ask how much of a blob has come", "upload"),
    RepositoryRoute(("PATCH",), _UPLOAD, _CREATE, uploads.append_to_upload, "distribution",
                    "push a part of a blob", "upload"),
    RepositoryRoute(("PUT",), _UPLOAD, _CREATE, uploads.finish_upload, "distribution",
                    "finish pushing a blob", "upload"),
    RepositoryRoute(("DELETE",), _UPLOAD, _CREATE, uploads.cancel_upload, "distribution",
                    "give up pushing a blob", "upload"),
    RepositoryRoute(READ_METHODS, "/files/{name}/{tag}/{file}", _READ, get_file, "rest",
                    "download a file beside an image", "file"),
    Route(("GET",), "/token", PUBLIC, get_token, "token", "give a token for the registry", uncounted=True),
    Route(("POST",), "/token", PUBLIC, post_token, "token", "give a token for a password or a refresh token",
          uncounted=True),
    Route(READ_METHODS, "/api/openapi.json", PUBLIC, get_document, "rest", "describe the REST API for programs",
          gives=raw(JSON)),
    Route(READ_METHODS, "/api/docs", PUBLIC, get_page, "page", "describe the REST API, and try it", gives=raw(HTML)),
    Route(READ_METHODS, "/api/v1/permission/", PUBLIC, get_permission, "rest", "say who the sender is and may do what",
          gives=data(schemas.Permissions)),
    Route(READ_METHODS, "/api/v1/channel/", _READ, list_channels, "rest", "list the channels that can be searched",
          lists=True, query=schemas.Channels, gives=listing(schemas.Channel)),
    Route(READ_METHODS, "/api/v1/package/", _READ, list_packages, "rest", "search for packages in channels",
          lists=True, query=schemas.Packages, gives=listing(schemas.Package, message=str)),
    Route(READ_METHODS, "/api/v1/", PUBLIC, get_version, "rest", "say which version this is",
          gives=data(schemas.Version)),
    Route(READ_METHODS, "/api/v1/usage/", Permission.NAMESPACE_READ, get_usage, "rest",
          "say how much each namespace has", lists=True, gives=data(dict[str, schemas.Used])),
    Route(READ_METHODS, "/api/v1/namespace/", Permission.NAMESPACE_READ, namespaces.list_namespaces, "rest",
          "list namespaces", lists=True, query=schemas.Namespaces, gives=listing(schemas.ListedNamespace)),
    EntityRoute(READ_METHODS, _NAMESPACE, Permission.NAMESPACE_READ, namespaces.find_namespace,
                namespaces.get_namespace, "rest", "show a namespace", _ONE, gives=data(schemas.Namespace)),
    AccountRoute(("POST",), _NAMESPACE, Permission.NAMESPACE_CREATE, namespaces.create_namespace, "rest",
                 "create a namespace", _ONE, gives=message()),
    EntityRoute(("PUT",), _NAMESPACE, Permission.NAMESPACE_UPDATE, namespaces.find_namespace,
                namespaces.put_namespace, "rest", "replace a namespace's metadata and role mappings", _ONE,
                body=schemas.ChangedNamespace, gives=message()),
    EntityRoute(("DELETE",), _NAMESPACE, Permission.NAMESPACE_DELETE, namespaces.find_namespace,
                namespaces.delete_namespace, "rest", "delete an empty namespace", _ONE, gives=message()),
    EntityRoute(("PUT",), _NAMESPACE + "metadata/", Permission.NAMESPACE_UPDATE, namespaces.find_namespace,
                namespaces.put_metadata, "rest", "replace a namespace's metadata", _ONE,
                body=dict[str, JsonValue], gives=message()),
    EntityRoute(READ_METHODS, _NAMESPACE + "roles/", Permission.NAMESPACE_ROLE_MAPPING_READ,
                namespaces.find_namespace, namespaces.list_roles, "rest", "list a namespace's role mappings", _ONE,
                gives=data(list[schemas.NamespaceRole])),
    EntityRoute(("DELETE",), _NAMESPACE + "roles/", Permission.NAMESPACE_ROLE_MAPPING_DELETE,
                namespaces.find_namespace, namespaces.delete_roles, "rest", "delete all role mappings of a namespace",
                _ONE, gives=message()),
    EntityRoute(READ_METHODS, _NAMESPACE + "role/", Permission.NAMESPACE_ROLE_MAPPING_READ,
                namespaces.find_namespace, namespaces.get_role, "rest", "show a namespace's role in another", _ONE,
                query=schemas.OtherNamespace, gives=data(schemas.NamespaceRole)),
    EntityRoute(("POST",), _NAMESPACE + "role/", Permission.NAMESPACE_ROLE_MAPPING_CREATE, namespaces.find_namespace,
                namespaces.create_role, "rest", "map a role in another namespace to a namespace", _ONE,
                body=schemas.NewNamespaceRole, gives=message()),
    EntityRoute(("PUT",), _NAMESPACE + "role/", Permission.NAMESPACE_ROLE_MAPPING_UPDATE, namespaces.find_namespace,
                namespaces.put_role, "rest", "change a namespace's role in another", _ONE,
                body=schemas.NewNamespaceRole, gives=message()),
    EntityRoute(("DELETE",), _NAMESPACE + "role/", Permission.NAMESPACE_ROLE_MAPPING_DELETE,
                namespaces.find_namespace, namespaces.delete_role, "rest", "delete a namespace's role in another",
                _ONE, body=schemas.OtherNamespace, gives=message()),
    Route(READ_METHODS, "/api/v1/environment/", _READ, list_environments, "rest", "list environments", lists=True,
          query=shapes.Environments, gives=listing(shapes.Environment)),
    EntityRoute(READ_METHODS, _ENVIRONMENT, _READ, find_environment, get_environment, "rest", "show an environment",
                _ITS, gives=data(shapes.CurrentEnvironment)),
    EntityRoute(("POST",), "/api/v1/specification/", _CREATE, find_specification, post_specification, "rest",
                "have an environment built, new or as it is written down now", "the environment in the body",
                body=shapes.NewSpecification, gives=data(shapes.NewBuild, message=str)),
    Route(READ_METHODS, "/api/v1/build/", _READ, list_builds, "rest", "list builds", lists=True,
          query=shapes.Builds, gives=listing(shapes.Build)),
    Route(READ_METHODS, "/api/v1/watch/", _READ, list_watched, "rest", "list the environment files that are watched",
          lists=True, query=shapes.WatchedFiles, gives=listing(shapes.WatchedFile)),
    Route(READ_METHODS, "/api/v1/alarm/", _READ, list_alarms, "rest", "list current builds that hold what is denied",
          lists=True, query=shapes.Alarms, gives=listing(shapes.Alarm)),
    EntityRoute(READ_METHODS, _BUILD, _READ, find_build, get_build, "rest", "show a build",
                _BUILDS, gives=data(shapes.WholeBuild)),
    EntityRoute(READ_METHODS, _BUILD + "difference/", _READ, find_build, get_difference, "rest",
                "show what a build changed against the one before", _BUILDS,
                query=wanted.Against, gives=data(wanted.Difference)),
    Route(READ_METHODS, "/api/v1/specification/", Permission.ENVIRONMENT_SOLVE, solve_specification, "rest",
          "solve, and build nothing", lists=True, query=wanted.Specified, gives=fields(solve=list[wanted.Solved])),
    EntityRoute(("POST",), "/api/v1/solve/", Permission.ENVIRONMENT_SOLVE, find_plan, post_solve, "rest",
                "say what a build would be, and build nothing", "the environment in the body",
                body=wanted.NewPlan, gives=data(wanted.Plan)),
    EntityRoute(("POST",), "/api/v1/image/", _CREATE, find_image, post_image, "rest",
                "give a specification a name on demand", "all images on demand", body=wanted.NewImage,
                gives=data(wanted.Image, message=str)),
    AccountRoute(READ_METHODS, _TOKENS, SIGNED_IN, list_tokens, "rest", "list one's own access tokens",
                 query=schemas.Tokens, gives=listing(schemas.Token)),
    AccountRoute(("POST",), _TOKENS, SIGNED_IN, make_token, "rest", "make an access token",
                 body=schemas.NewToken | schemas.NewCondaStoreToken,
                 gives=data(schemas.MadeToken | schemas.CondaStoreToken)),
    AccountRoute(("DELETE",), _TOKENS + "{token}/", SIGNED_IN, revoke_token, "rest", "revoke an access token",
                 gives=message()),
    AccountRoute(READ_METHODS, _SETTING, Permission.SETTING_READ, get_settings, "rest",
                 "show what is set for all environments", "*/*", gives=_SET),
    AccountRoute(("PUT",), _SETTING, Permission.SETTING_UPDATE, put_settings, "rest", "set it", "*/*",
                 body=wanted.Settings, gives=_SET),
    AccountRoute(READ_METHODS, _SETTING + "{namespace}/", Permission.SETTING_READ, get_settings, "rest",
                 "show what is set for the environments of a namespace", "{namespace}/*", gives=_SET),
    AccountRoute(("PUT",), _SETTING + "{namespace}/", Permission.SETTING_UPDATE, put_settings, "rest", "set it",
                 "{namespace}/*", body=wanted.Settings, gives=_SET),
    EntityRoute(READ_METHODS, _SETTING + "{namespace}/{environment}/", Permission.SETTING_READ, find_environment,
                get_environment_settings, "rest", "show what is set for an environment", _ITS, gives=_SET),
    EntityRoute(("PUT",), _SETTING + "{namespace}/{environment}/", Permission.SETTING_UPDATE, find_environment,
                put_environment_settings, "rest", "set it", _ITS, body=wanted.Settings, gives=_SET),
    EntityRoute(("PUT",), _ENVIRONMENT, Permission.ENVIRONMENT_UPDATE, find_environment, put_environment, "rest",
                "choose the current build of an environment, or describe it", _ITS, body=shapes.ChangedEnvironment,
                gives=data(shapes.Environment)),
    EntityRoute(("DELETE",), _ENVIRONMENT, _DELETE, find_environment, delete_environment, "rest",
                "delete an environment with its builds and images", _ITS, gives=message()),
    *(EntityRoute(READ_METHODS, _ENVIRONMENT + end, _READ, find_environment, get_current_lock, "rest",
                  "get the lock of the current build", _ITS, gives=raw(YAML))
      for end in ("conda-lock.yml", "conda-lock.yaml", "lockfile/")),
    EntityRoute(("PUT",), _BUILD, Permission.ENVIRONMENT_UPDATE, find_build, put_build, "rest",
                "have a build made again", _BUILDS, gives=data(shapes.NewBuild, message=str)),
    EntityRoute(("DELETE",), _BUILD, Permission.BUILD_DELETE, find_build, delete_build, "rest",
                "delete a build that has ended", _BUILDS, gives=message()),
    EntityRoute(("PUT",), _BUILD + "cancel/", Permission.BUILD_CANCEL, find_build, cancel_build, "rest",
                "cancel a build", _BUILDS, gives=message()),
    EntityRoute(READ_METHODS, _BUILD + "packages/", _READ, find_build, list_locked_packages, "rest",
                "list the packages of a build", _BUILDS, query=shapes.LockedPackages, gives=listing(schemas.Package)),
    EntityRoute(READ_METHODS, _BUILD + "logs/", _READ, find_build, get_log, "rest", "get the log of a build", _BUILDS,
                query=shapes.Log, gives=raw(TEXT, EVENTS)),
    EntityRoute(READ_METHODS, _BUILD + "events/", _READ, find_build, get_events, "rest",
                "follow the events of a build", _BUILDS, gives=raw(EVENTS)),
    EntityRoute(READ_METHODS, _BUILD + "docker/", _READ, find_build, get_image, "rest",
                "get the reference of a build's image", _BUILDS, gives=raw(TEXT)),
    EntityRoute(READ_METHODS, _BUILD + "installer/", _READ, find_build, get_installer, "rest",
                "say that there are no installers", _BUILDS, gives=raw(BYTES)),
    *(EntityRoute(READ_METHODS, _BUILD + end, _READ, find_build, sends(file), "rest", f"get a build's {file}", _BUILDS,
                  gives=raw(type_of(file)))
      for end, file in BUILD_FILES.items()),
    AccountRoute(READ_METHODS, _AUDIT, Permission.AUDIT_READ, list_events, "rest", "list events of the audit log",
                 "*/*", query=schemas.Events, gives=data(list[schemas.Event], next=str)),
    AccountRoute(READ_METHODS, _AUDIT + "{namespace}/", Permission.AUDIT_READ, list_events, "rest",
                 "list events about a namespace", "{namespace}/*", query=schemas.Events,
                 gives=data(list[schemas.Event], next=str)),
    Route(READ_METHODS, "/ui/", PUBLIC, show_ui, "page", "show the web interface"),
    Route(READ_METHODS, "/ui/runtime-config.js", PUBLIC, get_configuration, "page",
          "tell the web interface where it is"),
    Route(READ_METHODS, "/ui/main.js", PUBLIC, get_script, "page", "give the program of the web interface"),
    Route(READ_METHODS, "/ui/main.css", PUBLIC, get_style, "page", "give the styles of the web interface"),
    Route(READ_METHODS, "/ui/{path:.*}", PUBLIC, show_ui, "page", "show the web interface at one of its addresses"),
    AccountRoute(("POST",), "/device", SIGNED_IN, answer_device, "page", "let a program sign in, or not"),
    AccountRoute(("POST",), "/logout", SIGNED_IN, log_out, "page", "sign a browser out"),
)
# fmt: on


def compose(
    settings: HttpSettings,
    open_parts: Callable[[], AbstractAsyncContextManager[Parts]],
    request_log: RequestLog,
    *,
    routes: Sequence[Row] = ROUTES,
    kinds: Sequence[MakeKind] = ALL_KINDS,
) -> web.Application:
    """The application. It opens its parts with `open_parts` when it starts, and closes them after its last request.

    Raises RoutesInvalid, InterfaceMissing.
    """
    check_routes(routes)
    check_interface(settings.ui_directory)
    app = web.Application()
    app[SETTINGS] = settings
    app[MEMORY] = Memory(settings.manifest_memory, settings.tag_memory_seconds)
    app[PROXIES] = Proxies(settings.trusted_proxies, settings.proxy_headers, settings.public_url)
    app[CONNECTIONS] = Connections(settings.trusted_proxies)
    app[RATES] = open_rates(settings)
    app[UPLOAD_BUDGET] = UploadBudget(settings.upload_memory)
    app[STREAMS] = Streams(settings.streams_per_sender)
    app[CORS] = Cors(settings.cors_origins, settings.api_origins, settings.api_prefix or "")
    observer = Observer(app, request_log)
    app[STOPPING] = asyncio.Event()
    app[DESCRIPTION] = Description(routes)

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with open_parts() as opened:
            app[PARTS] = opened
            app[KINDS] = Kinds([make(app) for make in kinds])
            yield
        request_log.flush()

    app.cleanup_ctx.append(parts)
    app.on_response_prepare.append(observer.complete)
    for path, rows, handler in _resources(routes):
        answer = observer.around(handler, rows[0].form, probe=rows[0].probe)
        if path in FOLDERS:
            app.router.register_resource(Folder(path, answer))
            continue
        app.router.add_route("*", path, answer, expect_handler=leave_to_reader)
        if settings.api_prefix is not None and path.startswith(PREFIXED):
            app.router.add_route("*", settings.api_prefix + path, answer, expect_handler=leave_to_reader)
    return app


def _resources(routes: Sequence[Row]) -> Iterator[tuple[str, list[Row], Handler]]:
    """The rows and the handler of each path or folder that aiohttp tells apart. Raises RoutesInvalid."""
    groups: dict[str, list[Row]] = {}
    for row in routes:
        groups.setdefault(find_folder(row.path) or row.path, []).append(row)
    for path, rows in groups.items():
        if len({(row.form, row.probe) for row in rows}) > 1:
            # errors in a path are reported before a row is found
            raise RoutesInvalid(f"the routes at {path} differ in their form of errors, or in whether they are probes")
        if path not in FOLDERS:
            handler = dispatch_path(rows)
            yield path, rows, handler
            if path.startswith(API):
                # conda-store's clients write either, and follow no redirect
                yield path.removesuffix("/") if path.endswith("/") else f"{path}/", rows, handler
            elif path in ("/login", "/logout"):
                # likewise
                yield f"{path}/", rows, handler
            elif path == "/ui/":
                yield "/ui", rows, handler
            continue
        handler = dispatch_folder(rows, FOLDERS[path])
        yield path, rows, handler
        if any(row.path == path for row in rows):
            yield path.removesuffix("/"), rows, handler

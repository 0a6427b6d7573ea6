"""The tables of who may do what. Times are UNIX seconds, documents are JSON text; secrets are stored only as hashes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, false, text

from storage.database.tables import NAME, metadata

ID = String(32)
HASH = String(64)

namespace = Table(
    "namespace",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("created", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    # for its users to fill (conda-store's metadata_), and its policies
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("policy", Text, nullable=False, server_default="{}"),
    # the most bytes that its repositories may hold together; 0 is no limit, null is what the settings say
    Column("quota", BigInteger),
    # what clients that know namespaces by numbers call it
    Column("id", Integer, default=text("(SELECT coalesce(max(id), 0) + 1 FROM namespace)"), index=True),
)

account = Table(
    "account",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", NAME, nullable=False, unique=True),
    Column("display_name", String(255)),
    # argon2id in its own format; null for people who sign in through a provider, and for robots
    Column("password", Text),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    # of a robot, which is refused from then on
    Column("expires", Float),
    # the account that made a robot
    Column("owner", ID, ForeignKey("account.id", ondelete="CASCADE"), index=True),
    # incremented to end everything that was issued: a new password, signing out everywhere
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Column("signed_in", Float),
)

identity = Table(
    "identity",
    metadata,
    # an account's identity at a provider: an issuer's subject never changes, while an address or a name may
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("account", ID, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Float, nullable=False),
)

account_group = Table(
    "account_group",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("created", Float, nullable=False),
)

membership = Table(
    "membership",
    metadata,
    Column("account", ID, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    Column("group_name", NAME, ForeignKey("account_group.name", ondelete="CASCADE"), primary_key=True, index=True),
    # `local`, or the issuer that reported it at the last sign-in; only the same source can end it
    Column("source", String(255), primary_key=True),
)

binding = Table(
    "binding",
    metadata,
    Column("id", ID, primary_key=True),
    # account (an id), group (a name) or namespace (a name: everybody who may act for it)
    Column("holder_kind", String(16), nullable=False),
    Column("holder", NAME, nullable=False),
    Column("pattern", String(512), nullable=False),
    Column("role", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    Index("uq_binding_holder_pattern_role", "holder_kind", "holder", "pattern", "role", unique=True),
)

access_token = Table(
    "access_token",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account", ID, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    Column("hash", HASH, nullable=False, unique=True),
    # its limits, a JSON list of `pattern=role`; null for everything that its owner may do
    Column("bindings", Text),
    # the namespace of whoever shows it and names none; null for the account's own
    Column("primary_namespace", NAME),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
    # updated now and then
    Column("used", Float),
    Column("used_from", String(64)),
)

refresh_token = Table(
    "refresh_token",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("account", ID, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    # the access token that was presented as the password; when that ends, so does this one
    Column("access_token", ID, ForeignKey("access_token.id", ondelete="CASCADE"), index=True),
    Column("epoch", Integer, nullable=False),
    Column("service", String(255), nullable=False),
    Column("client_id", String(255), nullable=False, server_default=""),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
)

browser_session = Table(
    "browser_session",
    metadata,
    Column("hash", HASH, primary_key=True),
    Column("account", ID, ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    # for a session from a provider: its refresh token, encrypted with what the browser shows (null while one process
    # exchanges it for the next), and when the provider last said who this is
    Column("issuer", String(255)),
    Column("refresh", Text),
    Column("checked", Float),
)

sign_in = Table(
    "sign_in",
    metadata,
    # a sign-in that began here and returns from a provider or a device; bounded and short-lived
    Column("state", HASH, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    # whose it is: a client's address or network
    Column("client", String(64), nullable=False, server_default=""),
    # of a device: what a person types
    Column("code", HASH),
    Index("ix_sign_in_kind_client", "kind", "client"),
    Index("uq_sign_in_code", "code", unique=True),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("kid", String(64), primary_key=True),
    # PEM, encrypted if the settings have a key for that
    Column("private", Text, nullable=False),
    Column("public", Text, nullable=False),
    Column("created", Float, nullable=False),
    # when it stops signing, and until when its signatures are accepted
    Column("retired", Float),
    Column("expires", Float),
)

credential = Table(
    "credential",
    metadata,
    Column("id", ID, primary_key=True),
    Column("namespace", NAME, nullable=False),
    # channel, mirror or registry, and its URL
    Column("kind", String(16), nullable=False),
    Column("address", String(512), nullable=False),
    # encrypted with a key from the settings; no command reveals it
    Column("secret", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("created_by", String(255), nullable=False),
    Index("uq_credential_namespace_kind_address", "namespace", "kind", "address", unique=True),
)

audit = Table(
    "audit",
    metadata,
    # append-only, except that the oldest events are deleted
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False, index=True),
    Column("principal", String(255), nullable=False),
    Column("principal_kind", String(16), nullable=False),
    Column("token", ID, nullable=False, server_default=""),
    Column("client", String(64), nullable=False, server_default=""),
    # the action, such as push, delete, sign-in or role.bind, and its object
    Column("action", String(64), nullable=False),
    Column("entity", String(512), nullable=False, server_default=""),
    Column("outcome", String(16), nullable=False),
    Column("request", String(128), nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default="{}"),
    Index("ix_audit_principal_id", "principal", "id"),
    Index("ix_audit_entity_id", "entity", "id"),
)

"""Signing in a program that cannot show a page, by a person's browser (OAuth 2.0 Device Authorization Grant, RFC 8628).

The program keeps the device code and asks again and again; the person types the user code where they are signed in, and
allows it or not. Of both codes only hashes are stored. A user code has 34 bits, so whoever reads the database can find
it; to whom it would then be worth anything, an account of their own gives nothing more.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

from cachetools import LRUCache
from sqlalchemy import delete, select, update

from auth.changing import AccessData
from auth.sign_in.errors import DeviceDenied, DeviceExpired, DevicePending, DeviceTooFast
from auth.sign_in.pending import PendingSignIns
from auth.tokens.credential import Credential
from auth.tokens.secrets_text import hash_of
from storage.database.account_tables import sign_in

KIND = "device"
INTERVAL = 5
"""Seconds between two questions of one device (RFC 8628, section 3.2)."""
EARLY_SECONDS = 0.5
"""A device's clock and ours may differ by as much within one interval."""
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""Letters that make no words, and none that is taken for another (RFC 8628, section 6.1)."""
HALF = 4
LONGEST_CODE = 128
MOST_REMEMBERED = 10_000
"""Devices whose last question a process remembers."""

Status = Literal["pending", "allowed", "denied"]


class NewDevice(NamedTuple):
    device_code: str
    user_code: str

    def __repr__(self) -> str:
        return "NewDevice()"


@dataclass(frozen=True)
class DeviceRequest:
    """A device that wants to sign in."""

    name: str
    """What it says of itself."""
    client: str
    """The address from which it began."""
    began: float
    """UNIX seconds."""
    lifetime: float | None = None
    """Seconds for which it asks to stay signed in; None for the most that is allowed."""
    status: Status = "pending"
    credential: Credential | None = None
    """Of who has allowed it."""

    def write(self) -> Mapping[str, object]:
        who = {} if self.credential is None else {"account": self.credential.account, "epoch": self.credential.epoch}
        mine = {"name": self.name, "client": self.client, "began": self.began, "lifetime": self.lifetime}
        return {**mine, "status": self.status, **who}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        who = Credential(document["account"], document["epoch"]) if "account" in document else None
        name, client, began = document["name"], document["client"], document["began"]
        return cls(name, client, began, document["lifetime"], document["status"], who)


class DeviceSignIns:
    """Those of all devices, whichever process they ask."""

    def __init__(self, data: AccessData) -> None:
        self._database = data.database
        self._pending = PendingSignIns(data, KIND)
        self._asked: LRUCache[str, tuple[float, int]] = LRUCache(MOST_REMEMBERED)

    async def begin(self, device: DeviceRequest, group: str) -> NewDevice:
        """`group` is whom the device counts to, as `registry.peers.networks.client_of` names it."""
        user_code = _new_user_code()
        return NewDevice(await self._pending.begin(device.write(), group, hash_of(user_code)), show_code(user_code))

    async def find(self, user_code: str) -> DeviceRequest | None:
        """The device that waits for whom typed `user_code`; None if none does, or not any more."""
        async with self._database.reading() as connection:
            row = (await connection.execute(_waiting(user_code))).first()
        device = DeviceRequest.read(json.loads(row.document)) if row is not None else None
        return device if device is not None and device.status == "pending" else None

    async def decide(self, user_code: str, credential: Credential | None) -> DeviceRequest | None:
        """Allow a device to sign in as who has proved `credential`, or deny it with None.

        Returns the device; None if none waits for that, or somebody has just decided.
        """
        async with self._database.writing() as connection:
            row = (await connection.execute(_waiting(user_code))).first()
            device = DeviceRequest.read(json.loads(row.document)) if row is not None else None
            if row is None or device is None or device.status != "pending":
                return None
            decided = replace(device, status="denied" if credential is None else "allowed", credential=credential)
            mine = sign_in.c.state == row.state, sign_in.c.document == row.document
            values = {"document": json.dumps(decided.write())}
            done = await connection.execute(update(sign_in).where(*mine).values(**values))
        return decided if done.rowcount else None

    async def poll(self, device_code: str) -> DeviceRequest:
        """The device that shows its code, once somebody has allowed it; the code is good for nothing afterwards.

        Raises DevicePending, DeviceTooFast, DeviceDenied, DeviceExpired.
        """
        if not device_code.isascii() or len(device_code) > LONGEST_CODE:
            raise DeviceExpired
        key = hash_of(device_code)
        self._check_pace(key)
        mine = sign_in.c.state == key, sign_in.c.kind == KIND
        async with self._database.reading() as connection:
            row = (await connection.execute(select(sign_in).where(*mine))).first()
        if row is None or row.expires <= time.time():
            raise DeviceExpired
        device = DeviceRequest.read(json.loads(row.document))
        if device.status == "pending":
            raise DevicePending
        if device.status == "denied":
            raise DeviceDenied
        async with self._database.writing() as connection:
            gone = await connection.execute(delete(sign_in).where(*mine))
        if not gone.rowcount:
            raise DeviceExpired
        return device

    def _check_pace(self, key: str) -> None:
        """Raise DeviceTooFast for a device that asks sooner than it was told; it then has to wait for longer."""
        now = time.monotonic()
        before, interval = self._asked.get(key, (-1e9, INTERVAL))
        if now - before < interval - EARLY_SECONDS:
            interval += INTERVAL
            self._asked[key] = now, interval
            raise DeviceTooFast(interval)
        self._asked[key] = now, interval


def show_code(user_code: str) -> str:
    return f"{user_code[:HALF]}-{user_code[HALF:]}"


def read_code(text: str) -> str:
    """What a person typed, without what they need not type; empty if it cannot be a code."""
    letters = "".join(each for each in text[:LONGEST_CODE].upper() if each.isalnum())
    return letters if len(letters) == 2 * HALF and set(letters) <= set(ALPHABET) else ""


def _new_user_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(2 * HALF))


def _waiting(user_code: str) -> Any:
    mine = sign_in.c.code == hash_of(user_code), sign_in.c.kind == KIND, sign_in.c.expires > time.time()
    return select(sign_in).where(*mine)

"""A store on this machine gets its requests directly, whatever proxy the environment names."""

from __future__ import annotations

import pytest

from storage.errors import StorageError
from storage.objects.s3 import S3Objects
from storage.objects.s3_bucket import S3Location
from tests.support.servers.outer_proxy import outer_proxy


@pytest.mark.parametrize(("endpoint", "proxied"), [("http://127.0.0.1:1", False), ("http://store.example:1", True)])
def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str, proxied: bool) -> None:
    store = S3Objects(S3Location("bucket", endpoint=endpoint, access_key="KEY", secret_key="SECRET"))
    with outer_proxy(monkeypatch) as proxy:
        with pytest.raises(StorageError):
            store.check()
        assert bool(proxy.asked) is proxied

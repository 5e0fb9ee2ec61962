"""An S3-compatible server on loopback (moto), started once for all tests of a process, and a folder in it for each."""

import functools
import logging
import uuid

import pytest
from obstore.store import MemoryStore

from trainables.storage.object_store import Remote

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_REGION": "us-east-1"}


@functools.cache
def endpoint():
    """The server's address; its thread ends with the process."""
    import boto3  # here, for they take seconds, and most tests need no server
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", **{k: KEYS[name] for k, name in names.items()}
    )
    client.create_bucket(Bucket=BUCKET)
    return address


@pytest.fixture
def store_url(monkeypatch, tmp_path):
    """A fresh folder in the store, which the environment opens; copies lie in the test's own folder."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint(), "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/sweep"


def in_memory():
    """A remote without a server, which keeps objects in memory and takes the same conditional puts."""
    remote = Remote("s3://bucket/memory")
    remote._store = MemoryStore()
    return remote

"""Checks a Redis spool's server: whether it can be used, and whether it keeps what it was given."""

from __future__ import annotations

from collections.abc import Mapping

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.diagnosis.findings import Finding
from sessionsight.log import ThrottledLogger

__all__ = ["check_redis", "server_findings"]

_OLDEST = 7


def check_redis(spool: str, timeout: float) -> list[Finding]:
    """Connect to the server of a spool, and check its configuration. Nothing is written.

    Args:
        spool: The URL.
        timeout: Seconds to wait for each of two replies.
    """
    store = open_redis_store(spool, DeliveryOptions(), ThrottledLogger(), timeout=timeout)
    try:
        findings = server_findings(store.name, store.connections.info(timeout=timeout), store.wait_replicas)
        store.ready()
    except StoreError as error:
        message = f"{store.name}: {error}"
        hint = "records wait in memory until it can be used, where a kill loses them"
        return [Finding(level="error", subject="spool", message=message, hint=hint)]
    finally:
        store.close()
    return findings


def server_findings(name: str, info: Mapping[str, str], wait_replicas: int = 0) -> list[Finding]:
    """Return what a server's description of itself tells. What a hosted server does not tell is not reported.

    Args:
        name: The server's URL without password.
        info: The reply to `INFO`.
        wait_replicas: The number of replicas for which each write waits.

    Example:
        >>> server_findings("redis://cache:6379/0", {"redis_version": "7.2.5", "aof_enabled": "1"})[0].message
        'redis://cache:6379/0 answers (version 7.2.5)'
    """
    found: list[Finding] = []
    version = info.get("redis_version", str(_OLDEST))
    if int(version.split(".")[0]) < _OLDEST:
        message, hint = f"{name} has version {version}, which is too old", f"use Redis {_OLDEST} or newer, or Valkey"
        found.append(Finding(level="error", subject="spool", message=message, hint=hint))
    if info.get("role", "master") != "master":
        message, hint = f"{name} is a replica, which cannot be written", "give the address of the primary"
        found.append(Finding(level="error", subject="spool", message=message, hint=hint))
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        message = f"{name} drops records when its memory is full (maxmemory-policy {policy})"
        hint = "set its maxmemory-policy to noeviction"
        found.append(Finding(level="warning", subject="spool", message=message, hint=hint))
    if info.get("aof_enabled", "1") != "1":
        message, hint = f"{name} loses all records when it restarts", "set its appendonly to yes"
        found.append(Finding(level="warning", subject="spool", message=message, hint=hint))
    replicas = info.get("connected_slaves", str(wait_replicas))
    if int(replicas) < wait_replicas:
        message, hint = f"{name} has {replicas} replicas, and wait_replicas is {wait_replicas}", "connect more of them"
        found.append(Finding(level="warning", subject="spool", message=message, hint=hint))
    return found or [Finding(level="ok", subject="spool", message=f"{name} answers (version {version})")]

"""One command at a time writes under a root: it takes a lease, and others are refused in one line. Readers need none.

A claim to the lease is a file in `leases/`. A command puts its claim, then lists all of them, and withdraws where it
finds another one. Of two commands at least the later sees the other, whatever their clocks say: a store that lists what
was written before is all that this needs. Two that begin together may both withdraw, so each tries again after a random
moment.

The claim is written again each minute. Where its process is gone, or it has not been written for ten minutes, whoever
finds it removes it. A command that was asleep for so long ends when it finds its claim gone. What it wrote meanwhile is
safe: two writers never damage a Delta table, one of them fails.
"""

from __future__ import annotations

import _thread
import datetime as dt
import getpass
import os
import secrets
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from msgspec import DecodeError, json

from ecdctr_spark.events import event
from ecdctr_spark.settings.base import ConfigError, Settings
from ecdctr_spark.storage import Root, process_runs, sealed, unsealed

LEASES, _ENDING = "leases", ".json"
_RENEWED, _EXPIRED = 60.0, 600.0  # seconds
_TRIED = 3.0  # seconds, for two that begin together
_PAUSES = (0.1, 0.6)  # seconds between two tries, by chance
_OWN = set[str]()  # the claims of this process


class Claim(Settings, frozen=True):
    """Who writes under a root: `command` of a `user` in a `process` of a `host`, `since` when (UTC)."""

    command: str
    user: str
    host: str
    process: int
    since: str

    def __str__(self) -> str:
        return f"ecdctr {self.command} of {self.user} on {self.host} (process {self.process}), since {self.since} UTC"


@contextmanager
def lease(root: Root, command: str, wait_minutes: float = 0.0) -> Iterator[None]:
    """Holds the lease of a root for the length of the block. Raises ConfigError that names who has it, where it is not
    returned within `wait_minutes`."""
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    claim = Claim(command=command, user=_user(), host=socket.gethostname(), process=os.getpid(), since=now)
    own, content = root.at(LEASES, f"{uuid.uuid4().hex}{_ENDING}"), sealed(claim)
    returned = Event()
    renewing = Thread(target=_renew, args=(own, content, returned), daemon=True)
    _OWN.add(own.name)
    try:
        _take(root.at(LEASES), own, content, time.monotonic() + max(60.0 * wait_minutes, _TRIED))
        renewing.start()
        try:
            yield
        finally:
            returned.set()
            renewing.join()
    finally:  # also of a command that is interrupted while it waits
        own.remove()
        _OWN.discard(own.name)


def _take(leases: Root, own: Root, content: bytes, deadline: float) -> None:
    """Returns when the own claim is the only one of a command that runs. Raises ConfigError after the deadline."""
    waiting = False
    while True:
        own.write_bytes(content)
        other = _other(leases, own.name)
        if other is None:
            return
        own.remove()
        if time.monotonic() > deadline:
            raise ConfigError(
                f"storage.root: {other} writes there: run it again when that has ended, or let it wait"
                " (storage.wait_minutes)"
            )
        if not waiting:
            event("waiting for the lease", holder=other)
            waiting = True
        time.sleep(secrets.SystemRandom().uniform(*_PAUSES))


def _other(leases: Root, own: str) -> str | None:
    """Another claim in words, of a command that runs. Those of commands that have ended are removed."""
    written = {name: moment for name, moment in leases.times().items() if name.endswith(_ENDING) and name[0] != "."}
    now = written.pop(own)  # by the store's own clock
    for name, moment in written.items():
        place = leases.at(name)
        try:
            claim = json.decode(unsealed(place), type=Claim)
            lives, holder = _lives(claim, name), str(claim)
        except FileNotFoundError:  # it was withdrawn meanwhile
            continue
        except (DecodeError, ConfigError):  # it is being written, or it is damaged
            lives, holder = True, f"a command whose claim {place} cannot be read (remove it if none runs)"
        if now - moment < _EXPIRED and lives:
            return holder
        with suppress(FileNotFoundError):  # another command removes it as well
            place.remove()
    return None


def _lives(claim: Claim, name: str) -> bool:
    """Whether the process of a claim may still run. A container that is started again may get the number of the process
    that was killed there for itself."""
    if claim.host != socket.gethostname():
        return True
    return name in _OWN if claim.process == os.getpid() else process_runs(claim.process)


def _renew(own: Root, content: bytes, returned: Event) -> None:
    while not returned.wait(_RENEWED):
        try:
            if not own.exists():
                event("the lease was lost", claim=own)
                _thread.interrupt_main()
                return
            own.write_bytes(content)
        except Exception as error:  # whatever a store raises that does not answer: it is tried again
            event("the lease was not renewed", claim=own, error=error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())

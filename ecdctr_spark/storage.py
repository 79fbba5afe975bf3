"""Storage: a place is a URI, and Root is the only access to stored objects other than Delta tables.

A place is a local folder (a path, file: or a Databricks volume) or a prefix of an object store (s3a, abfss, gs or hdfs,
through pyarrow.fs). A folder of files is published as a whole: its manifest is written last, and a folder without a
manifest does not exist. Credentials and endpoints come from the usual environment variables (AWS_ENDPOINT_URL,
AWS_REGION, ...).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import json

from ecdctr_spark.settings.base import ConfigError, Settings

SCHEMES = ("file", "s3a", "s3", "abfss", "gs", "hdfs", "dbfs")
# What pyarrow, delta-rs and Hadoop's client read from the environment.
S3_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_VOLUMES = "/Volumes/"  # of Databricks
_STAMPS = "_stamps"  # of a draft: a small object for each file that is written, with its size and hash
_UNFINISHED = re.compile(r"\..+\.\d+\.writing")  # the name that Root.put gives a file until it is whole
_SEAL = b',\n "sha256": "'
_PIECE = 1 << 22
_COPIES = 4  # files copied at a time


class File(Settings, frozen=True):
    """A manifest's entry of a file: its size in bytes and its SHA-256 as hex digits."""

    size: int
    sha256: str


def stamp(path: Path) -> File:
    """The size and SHA-256 of a local file."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return File(size=path.stat().st_size, sha256=digest.hexdigest())


def sha256(content: bytes) -> str:
    """The SHA-256 of bytes as hex digits."""
    return hashlib.sha256(content).hexdigest()


def sealed(members: Any) -> bytes:
    """An object as JSON text, with the SHA-256 of that text as its last member. See `unsealed`."""
    content = json.format(json.encode(members), indent=1)
    return content.removesuffix(b"\n}") + _SEAL + sha256(content).encode() + b'"\n}'


def unsealed(file: Root, advice: str = "make it again (ecdctr train, export)") -> bytes:
    """The text that was `sealed`, without its hash; that of a former version as it is. Raises ConfigError with the
    advice where a byte has changed, OSError where there is no such file."""
    content = file.read_bytes()
    text, seal, rest = content.rpartition(_SEAL)
    if not seal and _is_text(content):
        return content
    if rest != sha256(text + b"\n}").encode() + b'"\n}':
        raise ConfigError(f"{file}: damaged: it differs from its own hash; {advice}")
    return text + b"\n}"


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


class Addresses(NamedTuple):
    """One place as each library names it. `petastorm` is None where Petastorm cannot read and files are staged."""

    spark: str
    arrow: str
    deltalake: str
    petastorm: str | None


@dataclass(frozen=True)
class Root:
    """A folder or a file by its URI: an absolute local path, or scheme://authority/path. See `parse`."""

    uri: str

    @classmethod
    def parse(cls, place: str | Path) -> Root:
        """The place that a user names. `~` is expanded and a local path is made absolute; s3: becomes s3a:, and
        dbfs:/Volumes/... becomes /Volumes/...

        Raises ConfigError with one line for an unknown scheme, a URI without a bucket, or an empty text.
        """
        text = str(place)
        if not text.strip():
            raise ConfigError("an empty path; expected a folder or a URI")
        scheme = _SCHEME.match(text)
        if scheme is None:
            return cls(str(Path(text).expanduser().resolve()))
        return cls(_parsed(text, scheme.group(1).lower()))

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.rsplit("/", 1)[-1]

    @property
    def scheme(self) -> str:
        """One of s3a, abfss, gs and hdfs, or file for a local path."""
        return self.uri.split("://", 1)[0] if "://" in self.uri else "file"

    @property
    def path(self) -> Path | None:
        """The local path, None on an object store."""
        return Path(self.uri) if self.scheme == "file" else None

    @property
    def in_volume(self) -> bool:
        """Whether it is inside of a volume of Databricks' Unity Catalog."""
        return self.uri.startswith(_VOLUMES)

    def at(self, *names: str) -> Root:
        """The place of that name below this one. A name may have several parts, such as `models/actr`. Raises
        ValueError where a part is empty, "." or ".."."""
        parts = [part for name in names for part in name.split("/")]
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{self.uri}: {'/'.join(names)} does not name a place below it")
        return Root("/".join([self.uri.rstrip("/"), *parts]))

    def beside(self, ending: str) -> Root:
        """The place beside this one whose name is this name plus `ending`."""
        return Root(f"{self.uri}{ending}")

    @property
    def addresses(self) -> Addresses:
        """This place as Spark, pyarrow, delta-rs and Petastorm name it."""
        if self.scheme == "file":
            # Without the scheme a cluster's Spark takes its default file system; Databricks knows volumes by path.
            spark = self.uri if self.in_volume else f"file:{self.uri}"
            return Addresses(spark, self.uri, self.uri, f"file://{self.uri}")
        authority, _, key = self.uri.split("://", 1)[1].partition("/")
        bucket = "" if self.scheme == "hdfs" else authority.split("@", 1)[0]  # abfss: container@account
        deltalake = self.uri.replace("s3a://", "s3://", 1)
        return Addresses(self.uri, f"{bucket}/{key}".rstrip("/"), deltalake, None)

    @property
    def storage_options(self) -> dict[str, str]:
        """What delta-rs needs beside the environment variables that it reads itself."""
        if self.in_volume:
            return {"allow_unsafe_rename": "true"}  # they have no hard links; commits of two writers may collide
        endpoint = s3_endpoint()
        if self.scheme != "s3a" or not endpoint:
            return {}
        return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}

    def prepare(self) -> None:
        """Creates a local folder. Raises ConfigError where it cannot be created or written to."""
        if self.path is None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ConfigError(
                f"storage.root: {self}: {error.strerror}: expected a folder that can be created and written to"
            ) from error

    def exists(self) -> bool:
        """Whether there is such a file, or such a folder."""
        return self._type() != "NotFound"

    def list(self) -> tuple[Root, ...]:
        """The entries of this folder, by name; none where there is no such folder."""
        return tuple(sorted((self.at(info.base_name) for info in self._found()), key=lambda root: root.name))

    def files(self) -> tuple[str, ...]:
        """The names of all files below this folder, such as `rows/part-0`, in order."""
        return tuple(self.sizes())

    def sizes(self) -> dict[str, int]:
        """The sizes in bytes of all files below this folder, by name, in the order of `files`."""
        return dict(sorted((self._below(info), int(info.size)) for info in self._files()))

    def times(self) -> dict[str, float]:
        """When each file below this folder was last written, in seconds since 1970 by the clock of the store, by name
        in the order of `files`."""
        return dict(sorted((self._below(info), info.mtime_ns / 1e9) for info in self._files()))

    def size(self) -> int | None:
        """The size of a file in bytes, None where there is no such file."""
        info = self._system().get_file_info(self.addresses.arrow)
        return int(info.size) if info.type.name == "File" else None

    def open(self) -> Any:
        """The file as a seekable pyarrow file; the caller closes it. Raises OSError where there is none."""
        return self._system().open_input_file(self.addresses.arrow)

    def stream(self) -> Any:
        """The file as a pyarrow stream, decompressed by the ending of its name (.gz)."""
        return self._system().open_input_stream(self.addresses.arrow)

    def read_bytes(self) -> bytes:
        """The content of a small file. Raises OSError where there is none."""
        with self.open() as file:
            content: bytes = file.read()
        return content

    def write_bytes(self, content: bytes) -> None:
        """Writes or replaces a small file atomically."""
        with scratch() as folder:
            written = folder / "content"
            written.write_bytes(content)
            self.put(written)

    def put(self, file: Path) -> None:
        """Copies a local file here, replacing what is there in one move."""
        if self.path is None:
            self._copy_from(file)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        writing = self.path.with_name(f".{self.path.name}.{os.getpid()}.writing")  # see _UNFINISHED
        try:
            shutil.copyfile(file, writing)
            writing.replace(self.path)
        except BaseException:  # a disk that is full keeps nothing of it
            writing.unlink(missing_ok=True)
            raise

    def fetch(self, target: Path) -> None:
        """Copies this file, or all files of this folder, to a local path that does not exist yet."""
        if self.size() is not None:
            self._copy_to(target)
            return
        with ThreadPoolExecutor(_COPIES) as copies:
            for done in [copies.submit(self.at(name)._copy_to, target / name) for name in self.files()]:
                done.result()

    def remove(self) -> None:
        """Removes the file, or the folder with everything below it, if it exists."""
        kind = self._type()
        if kind == "File":
            self._system().delete_file(self.addresses.arrow)
        elif kind == "Directory":
            self._system().delete_dir(self.addresses.arrow)

    def withdraw(self, manifest: str) -> None:
        """Removes a published folder, its manifest first: where that is killed, the rest does not exist."""
        self.at(manifest).remove()
        self.remove()

    def draft(self, manifest: str) -> Draft:
        """A draft of this folder; see Draft."""
        return Draft(self, manifest)

    def _system(self) -> Any:
        authority = "" if self.scheme == "file" else self.uri.split("://", 1)[1].partition("/")[0]
        return _file_system(self.scheme, authority, s3_endpoint(), s3_region())

    def _type(self) -> str:
        return str(self._system().get_file_info(self.addresses.arrow).type.name)

    def _files(self) -> Iterator[Any]:
        return (info for info in self._found(recursive=True) if info.type.name == "File")

    def _below(self, info: Any) -> str:
        """The name of a file below this folder."""
        name: str = info.path[len(self.addresses.arrow.rstrip("/")) + 1 :]
        return name

    def _found(self, recursive: bool = False) -> Any:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.addresses.arrow, allow_not_found=True, recursive=recursive)
        # What a killed `put` has left is no entry.
        return [info for info in self._system().get_file_info(selector) if not _UNFINISHED.fullmatch(info.base_name)]

    def _copy_from(self, file: Path) -> None:
        _copy(_file_system("file", "", None, None), str(file), self._system(), self.addresses.arrow)

    def _copy_to(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _copy(self._system(), self.addresses.arrow, _file_system("file", "", None, None), str(file))


@dataclass(frozen=True)
class Draft:
    """A folder that is to be published at `root`, written by one or more processes, each its own files.

    One process begins, all write, and one publishes when all have written. On a local disk the draft is beside the root
    and is published by a rename. On an object store the files are written in place, and the manifest last.
    """

    root: Root
    manifest: str

    def begin(self) -> None:
        """Removes what a killed process left and, on an object store, the folder that is to be replaced."""
        self._place.withdraw(self.manifest)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """The local path at which to write the file `name`. It joins the draft when the block ends without an error."""
        target = self._place.at(name)
        if target.path is not None:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            yield target.path
            self._stamped(name, stamp(target.path))
            return
        with scratch() as folder:
            written = folder / target.name
            yield written
            target.put(written)
            self._stamped(name, stamp(written))

    def files(self) -> dict[str, File]:
        """The files that all processes have written."""
        stamps = self._place.at(_STAMPS)
        return {name: json.decode(stamps.at(name).read_bytes(), type=File) for name in stamps.files()}

    def publish(self, content: bytes) -> None:
        """Writes the manifest and replaces the folder at the root by the draft."""
        self._place.at(_STAMPS).remove()
        self._place.at(self.manifest).write_bytes(content)
        if self.root.path is not None:
            replaced = self.root.beside(".replaced")
            replaced.remove()
            if self.root.path.exists():
                self.root.path.rename(replaced.uri)
            Path(self._place.uri).rename(self.root.path)
            replaced.remove()

    @property
    def _place(self) -> Root:
        return self.root if self.root.path is None else self.root.beside(".writing")

    def _stamped(self, name: str, file: File) -> None:
        self._place.at(_STAMPS, name).write_bytes(json.encode(file))


class Published:
    """The files of a published folder, each checked against its manifest before it is used.

    Local files are read in place. Those of an object store are fetched on request and stay on this machine's disk as
    long as this object.
    """

    def __init__(self, root: Root, files: Mapping[str, File]) -> None:
        self.root, self._files = root, files
        self._fetched: Path | None = None

    def check(self) -> None:
        """Raises ConfigError that names the first file that is missing or differs from its manifest: a local one by its
        hash, another one by its size (its hash is checked when it is fetched)."""
        for name, expected in self._files.items():
            place = self.root.at(name)
            if place.size() != expected.size or (place.path and stamp(place.path) != expected):
                raise self._damaged(name)

    def local(self, name: str) -> Path:
        """The local path of a file. Raises ConfigError where it is missing, or was fetched and is damaged."""
        place = self.root.at(name)
        if place.path is not None:
            return place.path
        if self._fetched is None:
            self._fetched = own_folder()
            weakref.finalize(self, shutil.rmtree, self._fetched)
        target = self._fetched / name
        if not target.exists():
            if place.size() is None:
                raise self._damaged(name)
            place.fetch(target)
            if stamp(target) != self._files[name]:
                target.unlink()
                raise self._damaged(name)
        return target

    def _damaged(self, name: str) -> ConfigError:
        return ConfigError(f"{self.root.at(name)}: missing, truncated or changed; make it again (ecdctr train, export)")


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty local folder that is removed when the block ends."""
    folder = own_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@lru_cache(maxsize=1)
def process_folder() -> Path:
    """A local folder for what this process and those that it starts leave on the disk. It is removed with the process,
    or by the next one where this is killed."""
    folder = own_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # Spark's JVM may be removing its part as well
    return folder


def own_folder(disk: Path | None = None) -> Path:
    """A new folder, which its user removes. It is named after its process, so that those of killed processes can be
    removed too, by the next process that makes one there.

    By default it is in the system's folder for temporary files, in an executor on the disk that Spark was given for
    them: on a cluster the system's may be small.
    """
    prefix = f"ecdctr-{socket.gethostname()}-"
    place = disk or Path(os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place, prefix)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=place))


@lru_cache(maxsize=4)  # once per process
def _sweep(disk: Path, prefix: str) -> None:
    for folder in disk.glob(f"{prefix}*"):
        owner = folder.name.removeprefix(prefix).split("-", 1)[0]
        if owner.isdigit() and not process_runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)  # another process may be removing it as well


def process_runs(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _parsed(text: str, scheme: str) -> str:
    known = ", ".join(SCHEMES)
    if scheme not in SCHEMES:
        raise ConfigError(f"{text}: unknown scheme {scheme}; expected a local path or one of {known}")
    parts = urlsplit(text)
    if scheme == "dbfs":
        if not parts.path.startswith(_VOLUMES) or parts.netloc:
            raise ConfigError(f"{text}: of dbfs only volumes can be used; expected dbfs:/Volumes/...")
        return str(Path(parts.path).resolve())
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigError(f"{text}: expected an absolute path on this machine, file:///...")
        return str(Path(unquote(parts.path)).resolve())
    if scheme in ("s3", "s3a", "gs") and "@" in parts.netloc:
        raise ConfigError(
            f"{scheme}://***@...: names a user; expected {scheme}://BUCKET/..., and credentials elsewhere"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"{text}: expected no ? and no # in a URI; credentials come from the environment")
    if not parts.netloc and scheme != "hdfs":
        raise ConfigError(f"{text}: names no bucket or container; expected {scheme}://BUCKET/...")
    return f"{'s3a' if scheme == 's3' else scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def s3_endpoint() -> str | None:
    """The S3 endpoint from the environment, None for Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def s3_region() -> str | None:
    """The S3 region from the environment."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


@lru_cache(maxsize=16)
def _file_system(scheme: str, authority: str, endpoint: str | None, region: str | None) -> Any:
    """pyarrow's file system. Imported here: the configuration parses a root and must not wait for pyarrow."""
    from pyarrow import fs

    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme == "gs":
        return fs.GcsFileSystem()
    if scheme == "hdfs":
        return fs.HadoopFileSystem.from_uri(f"hdfs://{authority or 'default'}")
    if scheme == "abfss":
        return _azure(authority)
    if not endpoint:
        return fs.S3FileSystem(region=region or fs.resolve_s3_region(authority))
    parts = urlsplit(endpoint)
    return fs.S3FileSystem(endpoint_override=parts.netloc, scheme=parts.scheme, region=region)


def _azure(authority: str) -> Any:
    """Azure through fsspec: pyarrow below 16 has no file system for it."""
    import fsspec
    from pyarrow import fs

    account = authority.partition("@")[2].split(".", 1)[0]
    try:
        azure = fsspec.filesystem("abfss", account_name=account)
    except ImportError as error:
        raise ConfigError(f"abfss://{authority}: needs the package adlfs: pip install adlfs") from error
    return fs.PyFileSystem(fs.FSSpecHandler(azure))


def _copy(source_system: Any, source: str, target_system: Any, target: str) -> None:
    """Copies the bytes as they are: by default pyarrow compresses and decompresses by the ending of a name."""
    with (
        source_system.open_input_stream(source, compression=None) as reading,
        target_system.open_output_stream(target, compression=None) as writing,
    ):
        while piece := reading.read(_PIECE):
            writing.write(piece)

"""A place is a URI: how a user may write it, what each library is given, and that nothing half-written exists."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ecdctr_spark import storage
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Addresses, Root, scratch, sealed, stamp, unsealed
from tests.flips import with_flipped_bit

MANIFEST = "manifest.json"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A local root with a space and letters beyond ASCII in its path."""
    return Root.parse(str(tmp_path / "a räum"))


def published(place: Root, content: dict[str, bytes], manifest: bytes = b"{}") -> None:
    draft = place.draft(MANIFEST)
    draft.begin()
    for name, written in content.items():
        with draft.writing(name) as path:
            path.write_bytes(written)
    draft.publish(manifest)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("/data/a räum/", "/data/a räum"),
        ("file:///data/x", "/data/x"),
        ("file:/data/a%20b", "/data/a b"),
        ("dbfs:/Volumes/main/ads/files", "/Volumes/main/ads/files"),
        ("dbfs:/Volumes/main//ads/./files/", "/Volumes/main/ads/files"),
        ("/Volumes/main/ads/files/", "/Volumes/main/ads/files"),
        ("s3://bucket/place/", "s3a://bucket/place"),
        ("s3a://bucket", "s3a://bucket"),
        ("gs://bucket/root", "gs://bucket/root"),
        ("abfss://box@account.dfs.core.windows.net/root", "abfss://box@account.dfs.core.windows.net/root"),
        ("hdfs:///root", "hdfs:///root"),
        ("hdfs://name:8020/root", "hdfs://name:8020/root"),
    ],
)
def test_a_place_is_a_path_or_a_uri(text: str, uri: str) -> None:
    assert Root.parse(text).uri == uri
    assert Root.parse(uri) == Root.parse(text)


def test_a_local_place_is_absolute_and_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Root.parse("here").path == tmp_path / "here"
    assert Root.parse("~/here").path == tmp_path / "home" / "here"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("gopher://x/y", "unknown scheme gopher; expected a local path or one of file, s3a"),
        ("wasbs://x/y", "unknown scheme wasbs"),
        ("dbfs:/tmp/x", "only volumes"),
        ("s3a:///x", "names no bucket"),
        ("s3://KEY:SECRET@bucket/x", "names a user"),
        ("gs://KEY@bucket/x", "names a user"),
        ("s3a://bucket/x?region=eu", r"no \? and no #"),
        ("abfss://c@a.dfs.core.windows.net/x#y", r"no \? and no #"),
        ("file://elsewhere/x", "on this machine"),
        (" ", "empty path"),
    ],
)
def test_what_is_no_place_is_refused_in_one_line(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        Root.parse(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "addresses"),
    [
        ("/a räum/x", Addresses("file:/a räum/x", "/a räum/x", "/a räum/x", "file:///a räum/x")),
        ("/Volumes/m/x", Addresses("/Volumes/m/x", "/Volumes/m/x", "/Volumes/m/x", "file:///Volumes/m/x")),
        ("s3a://bucket/x/y", Addresses("s3a://bucket/x/y", "bucket/x/y", "s3://bucket/x/y", None)),
        ("s3a://bucket", Addresses("s3a://bucket", "bucket", "s3://bucket", None)),
        ("gs://bucket/x", Addresses("gs://bucket/x", "bucket/x", "gs://bucket/x", None)),
        ("hdfs://name:8020/x", Addresses("hdfs://name:8020/x", "/x", "hdfs://name:8020/x", None)),
        ("abfss://box@a.net/x", Addresses("abfss://box@a.net/x", "box/x", "abfss://box@a.net/x", None)),
    ],
)
def test_each_library_is_given_the_place_as_it_names_it(uri: str, addresses: Addresses) -> None:
    assert Root(uri).addresses == addresses


def test_delta_rs_is_given_what_the_environment_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert Root("s3a://b").storage_options == {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true"}
    assert Root("gs://b").storage_options == {}
    assert Root("/Volumes/m/x").storage_options == {"allow_unsafe_rename": "true"}


def test_a_name_stays_below_its_place(root: Root) -> None:
    assert root.at("models", "a/b").uri == f"{root}/models/a/b"
    assert root.at("models").beside(".writing").name == "models.writing"
    for name in ("..", "a/../b", "", "/a"):
        with pytest.raises(ValueError, match="does not name"):
            root.at(name)


def test_small_objects_are_written_and_read_whole(root: Root) -> None:
    assert not root.exists()
    assert root.list() == root.files() == ()
    root.at("deep", "b").write_bytes(b"1")
    root.at("deep", "b").write_bytes(b"two")
    root.at("a").write_bytes(b"")
    assert root.at("deep/b").read_bytes() == b"two"
    assert root.at("deep/b").size() == 3
    assert root.at("deep").size() is None
    assert root.list() == (root.at("a"), root.at("deep"))
    assert root.files() == ("a", "deep/b")
    root.at("deep").remove()
    root.at("deep").remove()
    assert root.files() == ("a",)
    with pytest.raises(FileNotFoundError):
        root.at("deep/b").read_bytes()


def test_a_file_is_kept_byte_by_byte_and_its_stream_decompressed_by_its_name(root: Root, tmp_path: Path) -> None:
    packed = gzip.compress(b"id,name")
    root.at("a.csv.gz").write_bytes(packed)
    root.at("a.csv.gz").fetch(tmp_path / "b.csv.gz")
    assert root.at("a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes() == packed
    with root.at("a.csv.gz").stream() as stream:
        assert stream.read() == b"id,name"


def test_an_object_with_its_own_hash_is_json_and_shows_every_flipped_bit(root: Root) -> None:
    members, place = {"name": "a", "files": {"x": {"size": 1}}}, root.at("manifest.json")
    content = sealed(members)
    place.write_bytes(content)
    assert json.loads(content) == {**members, "sha256": json.loads(content)["sha256"]}
    assert json.loads(unsealed(place)) == members
    for bit in range(8 * len(content)):
        place.write_bytes(with_flipped_bit(content, bit))
        with suppress(ConfigError, json.JSONDecodeError):  # its reader names the file
            assert json.loads(unsealed(place)).keys() != members.keys()  # an unknown key, which its reader refuses


def test_what_was_written_without_a_hash_is_read_as_it_is(root: Root) -> None:
    root.at("manifest.json").write_bytes(b'{"name": "a"}')
    assert unsealed(root.at("manifest.json")) == b'{"name": "a"}'


def test_what_is_published_replaces_what_was_there(root: Root) -> None:
    place = root.at("models/actr")
    published(place, {"rows": b"old", "gone": b""})
    published(place, {"rows": b"new", "parts/0": b"0"}, b"manifest")
    assert place.files() == (MANIFEST, "parts/0", "rows")
    assert place.at(MANIFEST).read_bytes() == b"manifest"
    assert root.at("models").list() == (place,)


def test_a_draft_that_is_not_published_leaves_what_was_there(root: Root) -> None:
    place = root.at("model")
    published(place, {"rows": b"old"})
    killed = place.draft(MANIFEST)
    killed.begin()
    with killed.writing("stale") as path:
        path.write_bytes(b"new")
    assert place.files() == (MANIFEST, "rows")
    published(place, {"rows": b"new"})
    assert place.files() == (MANIFEST, "rows")


def test_on_an_object_store_the_manifest_goes_before_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Root] = []
    monkeypatch.setattr(Root, "remove", lambda place: removed.append(place))
    place = Root("s3a://bucket/model")
    place.draft(MANIFEST).begin()
    assert removed == [place.at(MANIFEST), place]


def test_what_a_killed_process_has_left_of_a_file_is_no_entry(root: Root) -> None:
    root.at("a.json").write_bytes(b"")
    root.at(".a.json.123.writing").write_bytes(b"")
    root.at("below/b.json").write_bytes(b"")
    assert root.list() == (root.at("a.json"), root.at("below"))
    assert root.files() == tuple(root.times()) == ("a.json", "below/b.json")


def test_a_file_that_does_not_fit_on_the_disk_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Root.parse(tmp_path / "root")
    place.at("page").write_bytes(b"before")

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"aft")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        place.at("page").write_bytes(b"after")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["page"]
    assert place.at("page").read_bytes() == b"before"


def test_a_draft_knows_what_each_process_wrote(root: Root, tmp_path: Path) -> None:
    draft = root.draft(MANIFEST)
    draft.begin()
    for name in ("rows-0", "parts/1"):
        with draft.writing(name) as path:
            path.write_text(name)
    with pytest.raises(OSError, match="disk full"), draft.writing("rows-1") as path:
        raise OSError("disk full")
    (tmp_path / "same").write_text("rows-0")
    assert list(root.draft(MANIFEST).files()) == ["parts/1", "rows-0"]
    assert draft.files()["rows-0"] == stamp(tmp_path / "same")


def test_a_file_or_a_folder_is_fetched_to_this_machine(root: Root, tmp_path: Path) -> None:
    root.at("a/b").write_bytes(b"b")
    root.at("c").write_bytes(b"c")
    root.fetch(tmp_path / "all")
    root.at("a/b").fetch(tmp_path / "one")
    assert (tmp_path / "all" / "a" / "b").read_bytes() == (tmp_path / "one").read_bytes() == b"b"
    assert (tmp_path / "all" / "c").read_bytes() == b"c"


def test_scratch_folders_go_with_their_block_and_those_of_killed_processes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dying = "from ecdctr_spark.storage import scratch; import os\nwith scratch():\n os._exit(0)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", dying], env=environment, check=True)
    assert len(list(tmp_path.iterdir())) == 1
    storage._sweep.cache_clear()
    with scratch() as folder, scratch() as other:
        assert sorted(tmp_path.iterdir()) == sorted([folder, other])
    assert not list(tmp_path.iterdir())


def test_parsing_a_place_loads_no_file_system() -> None:
    code = "import sys; from ecdctr_spark.storage import Root; Root.parse('s3://b/x'); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_scratch_folders_of_an_executor_are_on_sparks_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path}/a,{tmp_path}/b")
    with scratch() as folder:
        assert folder.parent == tmp_path / "a"

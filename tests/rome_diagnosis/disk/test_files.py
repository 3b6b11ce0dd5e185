"""Outputs: never an input, never half a file, never two writers, links and devices as they are."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError


def test_an_output_is_never_an_input_by_whatever_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.json"
    data.write_text("[]")
    (tmp_path / "soft").symlink_to(data)
    os.link(data, tmp_path / "hard")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("data.json", "soft", "hard", "folder/../data.json", "folder/up/data.json"):
        with pytest.raises(UserError, match="read as an input"):
            files.check_outputs([name], inputs=[data])
        with pytest.raises(UserError, match="two outputs"):
            files.check_outputs(["data.json", name])
    # Two names of a file that is yet to be.
    (tmp_path / "later").symlink_to(tmp_path / "new.json")
    with pytest.raises(UserError, match="two outputs"):
        files.check_outputs(["new.json", "later"])
    files.check_outputs(["other.json", None, "-", "-"], inputs=[data, "no/such/file", None])


def test_a_file_of_a_model_directory_is_an_input_and_a_new_one_beside_it_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="read as an input"):
        files.check_outputs([tmp_path / "config.json"], inputs=[tmp_path])
    files.check_outputs([tmp_path / "result.json"], inputs=[tmp_path])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "not a file name"),
        ("  ", "not a file name"),
        ("folder/", "not a file name"),
        ("a\0b", "not a file name"),
        ("folder", "is a directory"),
        ("nowhere/at/all", "there is no directory"),
        ("data/x", "there is no directory"),
        ("x" * 300, "File name too long"),
        ("/proc/version", "cannot write"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("data").write_text("")
    with pytest.raises(UserError, match=complaint):
        files.check_outputs([name])
    assert sorted(os.listdir()) == ["data", "folder"]


def test_a_link_is_followed_and_a_device_stays_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "new")
    files.write_text(dangling, "new")
    assert dangling.is_symlink()
    assert (tmp_path / "new").read_text() == "new"
    null = Path("/dev/null")
    before = null.stat()
    files.check_outputs([null, null], inputs=[null])
    files.write_text(null, "text")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert null.stat().st_ino == before.st_ino


def test_a_pipe_gets_the_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.check_outputs([pipe])
    files.write_text(pipe, "ρ\n")
    reader.join(timeout=10)
    assert read == ["ρ\n".encode()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_is_complete_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")

    def write(error: Exception) -> None:
        with files.atomic(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(RuntimeError):
        write(RuntimeError())
    assert path.read_text() == "old"
    with pytest.raises(UserError, match="No space left"):
        write(OSError(28, os.strerror(28)))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]
    umask = os.umask(0o027)
    try:
        files.write_text(path, "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(UserError, match="No space left on device"):
        files.write_text("/dev/full", "x" * 100_000)


def test_compressed_documents_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.json.gz", "{}")
    files.write_text(tmp_path / "b.json.gz", "{}")
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == b"{}"
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_a_name_that_promises_another_format_is_refused() -> None:
    for name in ("x.csv", "X.HTML", "x.json.jsonl", "x.npz.gz"):
        with pytest.raises(UserError, match=r"what goes there is \.json, not"):
            files.check_format(name, ".json")
    for name in ("x.json", "x.JSON.gz", "x", "x.tmp", "-", None, "v1.2"):
        files.check_format(name, ".json")
    files.check_format("x.htm", ".html")


def test_a_second_process_is_told_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "table"
    script = (
        "import sys, time; from rome_diagnosis.disk import files\n"
        "with files.locked(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"another process is writing {path}"), files.locked(path):
        pass
    holder.kill()
    holder.wait()
    with files.locked(path), files.locked(path, "-", None):  # one process may nest
        assert (tmp_path / ".table.lock").exists()
    assert os.listdir(tmp_path) == []
    assert not path.exists()


def test_only_the_first_of_a_jobs_processes_takes_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with files.locked(tmp_path / "table"):
        assert os.listdir(tmp_path) == []
    monkeypatch.setenv("RANK", "0")
    with files.locked(tmp_path / "table"):
        assert os.listdir(tmp_path) == [".table.lock"]


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "model") as aside:
        (aside / "a").write_text("a")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "a").read_text() == "a"

    def fail() -> None:
        with files.atomic_folder(tmp_path / "other") as aside:
            (aside / "a").write_text("half")
            raise OSError(28, os.strerror(28))

    with pytest.raises(UserError, match="No space left"):
        fail()
    assert os.listdir(tmp_path) == ["model"]
    (tmp_path / "empty").mkdir()
    files.check_new_folder(tmp_path / "empty")
    for name, complaint in (
        ("model", "exists already"),
        ("model/a", "exists already"),
        ("nowhere/model", "there is no directory"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(UserError, match=complaint):
            files.check_new_folder(tmp_path / name)
    for name in ("~nosuchuser/x", "a\0b"):
        with pytest.raises(UserError):
            files.check_new_folder(name)


def test_files_of_a_folder_follow_the_umask(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "model") as aside:
        (aside / "inner").mkdir(mode=0o700)
        (aside / "inner" / "weights").touch(mode=0o600)
    umask = os.umask(0)
    os.umask(umask)
    folder = tmp_path / "model" / "inner"
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (folder / "weights").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_folder_is_not_left_half_written_where_the_disk_is_full(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        """Stands for the error by which safetensors says what is no OSError."""

    folder = files.atomic_folder(tmp_path / "model")
    with pytest.raises(UserError, match=r"cannot write .*no room"), folder:
        raise SafetensorError("no room")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(KeyError), files.atomic_folder(tmp_path / "model"):
        raise KeyError("a mistake of the program's own is none of the disk's")

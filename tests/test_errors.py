"""Files that a command writes: never over another one, and whole or not at all."""

from pathlib import Path

import pytest

from alexnet_lit.errors import UserError, check_free, whole


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    check_free(file, force=False)
    file.write_text("mine")
    with pytest.raises(UserError, match=r"net\.onnx: is there already: --force replaces it, --out names another file"):
        check_free(file, force=False)
    check_free(file, force=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "is a folder: name a file with --out"), ("no/net.onnx", "there is no folder .*no: make it")],
)
def test_where_no_file_can_be(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        check_free(tmp_path / name, force=True)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_text("old")
    with whole(file) as part:
        part.write_text("new")
        assert (file.read_text(), part.suffix) == ("old", ".onnx")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("error", "seen"), [(RuntimeError("bug"), RuntimeError), (OSError(28, "full"), UserError)])
def test_what_fails_leaves_the_old_file(error: Exception, seen: type[Exception], tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_text("old")
    with pytest.raises(seen), whole(file) as part:  # noqa: PT012 - the block is what is tested
        part.write_text("half")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]

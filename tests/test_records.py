"""A file is written whole or not at all; a record says with what it was made; what ships is found by its name."""

import ast
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from prunequant import records


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    place = tmp_path / "deep" / "record.json"
    records.write_json(place, [1])
    with pytest.raises(TypeError):
        records.write_json(place, [object()])
    with pytest.raises(ValueError, match=r"value holds what JSON has no form for .*: record.json is not written"):
        records.write_json(place, {"snr": float("inf")})
    with pytest.raises(ValueError, match=r"text is .*UTF-8 has no form for it"):
        records.write_text(place, "half \ud800")
    assert json.loads(place.read_text()) == [1]
    assert [p.name for p in place.parent.iterdir()] == ["record.json"]


def test_an_error_while_writing_leaves_the_file_that_was_there_and_nothing_beside_it(tmp_path):
    place = tmp_path / "model.bin"
    records.write_bytes(place, b"before")
    with pytest.raises(OSError, match="disk full"), records.beside(place) as unfinished:
        unfinished.write_bytes(b"half of wh")
        raise OSError(28, "disk full")
    assert place.read_bytes() == b"before" and os.listdir(tmp_path) == ["model.bin"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_process_killed_while_it_writes_leaves_the_file_that_was_there(tmp_path):
    place = tmp_path / "record.json"
    records.write_json(place, {"rows": [1]})
    program = f"""
        import os, signal
        from prunequant import records
        with records.beside({str(place)!r}) as unfinished:
            unfinished.write_text('{{"rows": [1')
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -9
    assert json.loads(place.read_text()) == {"rows": [1]}


def test_two_threads_that_write_one_file_leave_the_whole_text_of_one(tmp_path):
    place, texts = tmp_path / "text", [letter * 200_000 for letter in "abcd"]
    threads = [threading.Thread(target=records.write_text, args=(place, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.read_text() in texts and os.listdir(tmp_path) == ["text"]


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path):
    place = tmp_path / ("n" * 250 + ".json")
    assert records.write_json(place, 1) == place and json.loads(place.read_text()) == 1


def test_a_writer_refuses_by_name_what_is_no_path_no_text_and_no_bytes(tmp_path):
    with pytest.raises(TypeError, match=r"path is 7: it must be the path of a file"):
        records.write_json(7, [])
    with pytest.raises(ValueError, match=r"path is '': it must be the path of a file"):
        records.write_json("", [])
    with pytest.raises(TypeError, match=r"text is b'a': it must be a string"):
        records.write_text(tmp_path / "a", b"a")
    with pytest.raises(TypeError, match=r"data is 'a': it must be bytes"):
        records.write_bytes(tmp_path / "a", "a")
    assert os.listdir(tmp_path) == []


def test_provenance_names_no_place_of_the_machine():
    text = json.dumps(records.provenance("prunequant verify"))
    assert "/" not in text.replace("prunequant verify", "")


def test_provenance_holds_every_field_that_the_committed_records_hold_and_more_when_asked():
    made = records.provenance("prunequant record order-effect", ("pytest", "no such package"), seconds=3, date="today")
    assert list(made) == ["command", "date", "cpu", "cores", "versions", "seconds"]
    assert made["versions"]["pytest"] == pytest.__version__ and "no such package" not in made["versions"]
    assert made["date"] == "today" and made["seconds"] == 3
    assert set(made) >= set(records.read("lsq_rates.json")["provenance"])


# What is opened for writing elsewhere, and why; all else is written by `records`.
OWN = {
    "cases/hardware/case.py": "prints to the process that asked",
    "checkpoint/calibration.py": "inside `beside`",
    "checkpoint/compressed_tensors.py": "a folder, written beside and renamed as a whole",
    "checkpoint/gguf_writing.py": "inside `beside`",
    "checkpoint/layout.py": "inside `beside`",
    "experiments.py": "the store appends under a lock, line by line; the lock file of a run is empty",
    "finetune/checkpoints.py": "inside `beside`",
    "models/column_scaling.py": "inside `beside`",
    "models/images.py": "inside `beside`",
    "studies/corpus.py": "packed in memory",
    "studies/fashion_mnist_6000.py": "packed in memory",
}
WRITERS = {"replace": "os", "dump": "json", "save": "np", "savez": "np", "savez_compressed": "np", "tofile": None}


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file by itself: opens it so, renames it, or is one of the usual methods that do."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if name == "open":
        words = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        return any(isinstance(w, str) and set(w) & set("wax+") and set(w) <= set("rwaxbt+") for w in words)
    if name in ("write_text", "write_bytes"):
        return isinstance(call.func, ast.Attribute) and owner != "records"
    return name in WRITERS and WRITERS[name] in (None, owner)


def test_no_module_writes_files_past_the_one_writer():
    top = Path(records.__file__).parent
    found = set()
    for path in set(top.rglob("*.py")) - {Path(records.__file__)}:
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        if any(map(writes, calls)):
            found.add(path.relative_to(top).as_posix())
    assert found == set(OWN)


def test_a_file_that_nobody_keeps_lies_in_a_folder_of_its_own_that_goes_with_the_process():
    code = "from prunequant import records; p = records.scratch('a'); p.write_text('x'); print(p, records.scratch('a'))"
    first, second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert first != second and not Path(first).parent.exists() and not Path(second).parent.exists()
    for name in ("", "..", "a/b", "a\0"):
        with pytest.raises(ValueError, match="name is"):
            records.scratch(name)


def test_every_recorded_change_of_the_code_was_noticed_or_has_a_reason():
    rows = records.read("mutations.json")["rows"]
    assert len(rows) > 250 and len({row["key"] for row in rows}) == len(rows)
    silent = [row for row in rows if not row["noticed"] and not row.get("why")]
    assert not silent, [f"{row['claim']}: {row['file']}:{row['line']} {row['after']}" for row in silent]

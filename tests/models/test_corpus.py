import hashlib
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prunequant.models import corpus, smollm2


@pytest.fixture()
def copied(tmp_path):
    shutil.copytree(corpus.find(corpus.TOKENS).parent, tmp_path / "data", ignore=shutil.ignore_patterns("fashion*"))
    return tmp_path / "data"


@pytest.mark.parametrize(("part", "size", "count"), [("train", 1_590_739, 309_200), ("heldout", 348_210, 68_240)])
def test_text_and_tokens_have_the_sizes_of_their_readme_and_are_ascii(part, size, count):
    text = corpus.text(part)
    assert len(text.encode()) == size and text.isascii() and text.endswith("\n")
    assert hashlib.sha256(text.encode()).hexdigest() == corpus.TEXT_SHA256[part]
    ids = corpus.tokens(part)
    assert ids.shape == (count,) and ids.dtype == np.int64 and 0 <= ids.min() and ids.max() < 49152
    assert not ids.flags.writeable


def test_no_long_passage_of_the_heldout_text_is_in_the_training_text():
    held, train = corpus.text("heldout").split(), corpus.text("train").split()
    seen = {tuple(train[i : i + 13]) for i in range(len(train) - 12)}
    shared = sum(tuple(held[i : i + 13]) in seen for i in range(len(held) - 12))
    assert shared / len(held) < 0.001


def test_evaluation_windows_are_whole_disjoint_pieces_and_nested():
    e16, e8, held = corpus.windows("E16"), corpus.windows("E8"), corpus.tokens("heldout")
    assert e16.shape == (16, 512) and np.array_equal(e8, e16[::2])
    places = np.linspace(0, 132, 16).astype(int)
    assert np.array_equal(e16, np.stack([held[512 * p : 512 * p + 512] for p in places]))
    assert np.array_equal(corpus.windows(4), e16[::4]) and corpus.windows(3).shape == (3, 512)
    every = corpus.every_window()
    assert every.shape == (133, 512) and np.array_equal(every.ravel(), held[: 133 * 512])
    for wrong in (0, 17, "E32", 2.5):
        with pytest.raises(ValueError, match="count"):
            corpus.windows(wrong)


def test_a_batch_is_a_function_of_seed_and_step():
    given = dict(size=3, length=40)
    a, b = corpus.batch(5, seed=1, **given), corpus.batch(5, seed=1, **given)
    assert a.shape == (3, 40) and np.array_equal(a, b)
    assert not np.array_equal(a, corpus.batch(6, seed=1, **given))
    assert not np.array_equal(a, corpus.batch(5, seed=2, **given))
    train = corpus.tokens("train")
    start = np.flatnonzero(train == a[0, 0])
    assert any(np.array_equal(train[s : s + 40], a[0]) for s in start)


def test_cleaning_is_idempotent_and_plain():
    raw = "\r\n “Fellow\u00a0citizens” —  the\tyear‑end\n\n\n\nis ‘good’ – \n"
    once = corpus.clean(raw)
    assert once == "\"Fellow\u00a0citizens\" -- the year-end\n\nis 'good' -\n" and corpus.clean(once) == once


def test_years_that_end_in_three_or_eight_are_held_out():
    messages = {f"{y}_x.txt": f"year {y}" for y in range(1899, 1932)}
    parts = corpus.join(messages)
    assert parts["heldout"] == "\n".join(f"year {y}\n" for y in (1903, 1908, 1913, 1918, 1923, 1928))
    assert parts["train"].startswith("year 1901\n") and parts["train"].count("year") == 22


def test_another_text_or_damaged_files_are_refused(copied):
    path = copied / "messages-1901-1928-heldout.txt.xz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        corpus.text("heldout", copied)
    shutil.copy(copied / "messages-1901-1928-train.txt.xz", path)
    with pytest.raises(ValueError, match="another content"):
        corpus.text("heldout", copied)
    (copied / corpus.TOKENS).write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="damaged"):
        corpus.tokens("train", copied)
    np.savez(copied / corpus.TOKENS, train=np.arange(9, dtype=np.uint16))
    with pytest.raises(ValueError, match="damaged"):
        corpus.tokens("heldout", copied)
    with pytest.raises(ValueError, match="part"):
        corpus.text("test")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        corpus.find("no-such-file.npz", tmp_path)


def test_cross_entropy_per_window_is_that_of_every_token_given_those_before():
    model = smollm2.random(smollm2.Config.tiny(vocabulary=30), 0)
    rows = np.random.default_rng(0).integers(0, 30, (5, 12))
    found = corpus.cross_entropies(model, rows, size=2)
    with torch.no_grad():
        for row, value in zip(rows, found):
            shares = F.log_softmax(model(torch.from_numpy(row)[None])[0], -1)
            expected = -np.mean([float(shares[t, row[t + 1]]) for t in range(11)])
            assert abs(value - expected) < 1e-5
    assert corpus.perplexity([np.log(2.0), np.log(8.0)]) == pytest.approx(4)

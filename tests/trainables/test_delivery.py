"""What travels to machines that do not see the study's folders: exactly the store's files and checkpoints."""

import dataclasses
import hashlib
import os
from types import SimpleNamespace

import pytest
import ray

from trainables import delivery
from trainables.corpora import create, open_store, prepare
from trainables.corpora.copies import keep_copy
from trainables.corpora.store import MANIFEST
from trainables.delivery import Address, Courier, arranged
from trainables.errors import CorpusError, MachineError, TrainingError
from trainables.inputs import InputSettings
from trainables.specification import TrialSpecification
from trainables.trial import PASSING, kind_of


class Direct:
    """A courier in this process that is asked like an actor."""

    def __init__(self, courier):
        for name in ("manifest", "piece", "keep", "kept"):
            setattr(self, name, SimpleNamespace(remote=getattr(courier, name)))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    corpus = create("synthetic", num_speakers=4, utterances_per_speaker=2)
    return prepare(corpus, None, InputSettings(max_seconds=1.0, frame_size=8), tmp_path_factory.mktemp("stores"))


@pytest.fixture
def courier(store, tmp_path):
    return Courier(str(store.path), str(tmp_path / "checkpoints"), ["one"])


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch):
    monkeypatch.setattr(ray, "get", lambda answer: answer)


def test_a_store_comes_in_pieces_and_opens_as_the_same_store(courier, store, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "PIECE_BYTES", 1000)
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    manifest = hashlib.sha256((store.path / MANIFEST).read_bytes()).hexdigest()
    address = Address(Direct(courier), "", "", manifest, delivery.versions())
    assert delivery._store_here(str(store.path), address) == str(store.path)  # seen: no copy
    path = delivery._store_here("/not/here", address)
    assert open_store(delivery.Path(path)).content_hash == store.content_hash
    assert delivery._store_here("/not/here", address) == path
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [delivery.Path(path).name]


def test_a_store_at_a_url_is_left_to_the_machine(courier):
    assert (
        delivery._store_here("s3://bucket/store", Address(Direct(courier), "", "", "", delivery.versions()))
        == "s3://bucket/store"
    )


def test_the_courier_hands_out_nothing_but_the_store(courier):
    for name in ("../secret", "/etc/passwd", "lock", ""):
        with pytest.raises(FileNotFoundError, match="no file"):
            courier.piece(name, 0)


def test_the_courier_keeps_checkpoints_of_its_trials_only(courier, tmp_path):
    courier.keep("one", {"best.pt": b"best", "last.pt": b"last"})
    courier.keep("one", {"last.pt": b"later"})
    assert courier.kept("one") == {"best.pt": b"best", "last.pt": b"later"}
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "one").iterdir()) == ["best.pt", "last.pt"]
    with pytest.raises(FileNotFoundError, match="no trial"):
        courier.keep("../elsewhere", {"last.pt": b""})
    for name in ("../last.pt", ".hidden", "a/b"):
        with pytest.raises(FileNotFoundError, match="no name of a checkpoint"):
            courier.keep("one", {name: b""})


def specification(store, folder):
    return TrialSpecification("one", "equal", 0, str(store), {}, {}, {}, [], {}, {}, str(folder))


def test_a_trial_elsewhere_gets_its_checkpoints_and_hands_over_what_changed(courier, store, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    courier.keep("one", {"best.pt": b"best", "last.pt": b"last"})
    address = Address(Direct(courier), str(tmp_path / "unseen"), "secret", "", delivery.versions())
    with arranged(specification(store.path, "/not/here"), address) as place:
        folder = delivery.Path(place.specification.folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"best.pt": b"best", "last.pt": b"last"}
        (folder / "new").write_bytes(b"later")
        (folder / "new").replace(folder / "last.pt")
        sent = []
        monkeypatch.setattr(courier, "keep", lambda trial, files: sent.append(files))
        address.courier.keep.remote = courier.keep
        place.saved()
        place.saved()
    assert sent == [{"last.pt": b"later"}, {}]
    assert not folder.exists()


def test_the_checkpoint_that_a_trial_begins_from_travels_to_where_the_trial_looks_for_it(store, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    courier = Courier(str(store.path), str(tmp_path / "checkpoints"), None)  # a search makes trials up as it goes
    courier.keep("donor", {"epoch-2.pt": b"two", "last.pt": b"later"})
    address = Address(Direct(courier), str(tmp_path / "unseen"), "secret", "", delivery.versions())
    heir = dataclasses.replace(specification(store.path, "/not/here"), parent="donor/epoch-2.pt")
    with arranged(heir, address) as place:
        folder = delivery.Path(place.specification.folder)
        assert (folder.parent / heir.parent).read_bytes() == b"two"
        assert list(folder.iterdir()) == []
    for name in ("../elsewhere", "a/b", ".hidden"):
        with pytest.raises(FileNotFoundError, match="no name of a checkpoint"):
            courier.kept(name)


def test_a_trial_that_sees_the_studys_folder_uses_it(courier, store, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    address = Address(Direct(courier), str(token), "secret", "", delivery.versions())
    with arranged(specification(store.path, tmp_path / "here"), address) as place:
        assert place.specification.folder == str(tmp_path / "here")
        place.saved()
    assert not (tmp_path / "here").exists()


def test_a_machine_with_other_versions_runs_no_trial_and_another_one_may(courier, store, tmp_path):
    wanted = delivery.versions() | {"torch": "1.0"}
    address = Address(Direct(courier), "", "", "", wanted)
    with (
        pytest.raises(
            MachineError, match=r"machine .* has torch .* and the study's machine 1\.0: install the same"
        ) as told,
        arranged(specification(store.path, tmp_path), address),
    ):
        pass
    assert kind_of(told.value) == PASSING


def test_on_the_drivers_machine_nothing_travels(store, tmp_path):
    with arranged(specification(store.path, tmp_path), None) as place:
        assert place.specification == specification(store.path, tmp_path)


def test_a_checkpoint_that_the_drivers_disk_refuses_fails_the_trial_with_the_reason(
    courier, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    address = Address(Direct(courier), str(tmp_path / "unseen"), "secret", "", delivery.versions())

    def refuse(answer):
        raise ray.exceptions.RayTaskError("keep", "traceback", OSError(28, "No space left on device"))

    with arranged(specification(store.path, "/not/here"), address) as place:
        (delivery.Path(place.specification.folder) / "last.pt").write_bytes(b"x")
        monkeypatch.setattr(ray, "get", refuse)
        with pytest.raises(TrainingError, match=r"checkpoint of one cannot be kept: \[Errno 28\] No space left"):
            place.saved()


def test_what_killed_trials_left_is_removed_and_what_others_use_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path))
    node = os.uname().nodename
    dead, alive = tmp_path / f"checkpoints-{node}-999999999-x", tmp_path / f"checkpoints-{node}-{os.getpid()}-x"
    dead.mkdir()
    alive.mkdir()
    assert delivery._scratch() == tmp_path
    assert not dead.exists()
    assert alive.exists()


def test_a_copy_that_is_cut_short_is_no_store(store, tmp_path):
    def cut(name, path):
        path.write_bytes(
            (store.path / name).read_bytes()[:100] if name == "audio.int16" else (store.path / name).read_bytes()
        )

    with pytest.raises(CorpusError, match=r"audio\.int16"):
        keep_copy((store.path / MANIFEST).read_bytes(), "elsewhere", tmp_path, cut)
    assert not list(tmp_path.glob("*-copy"))


@pytest.mark.parametrize("manifest", [b"{", b"{}", b'{"corpus": "../../etc"}', b'{"corpus": ""}'])
def test_a_manifest_from_elsewhere_cannot_name_a_folder_outside_the_cache(manifest, tmp_path):
    with pytest.raises(CorpusError, match="manifest"):
        keep_copy(manifest, "elsewhere", tmp_path, lambda name, path: None)

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from trainables import networks
from trainables.errors import NetworkError
from trainables.networks import InputSettings, registry
from trainables.tasks import Task

TASKS = [Task("emotion", ("neutral", "anger", "happiness", "sadness")), Task("gender", ("female", "male"))]


def create(**changes):
    settings = {"preset": "small", "modalities": ["audio"], "tasks": TASKS}
    return networks.create(changes.pop("name", "chae"), **{**settings, **changes})


def test_every_network_can_be_built_in_its_first_preset_with_every_modality():
    for name in networks.names():
        for modality in networks.modalities(name):
            together = {modality, *networks.load(name).needs}
            network = create(name=name, preset=networks.presets(name)[0], modalities=together)
            assert set(network.heads) == {"emotion", "gender"}
            assert network.last_shared_layer()


def test_shared_parameters_and_heads_are_all_parameters():
    network = create(modalities=["audio", "video"])
    shared = {id(parameter) for parameter in network.shared_parameters()}
    heads = {id(parameter) for parameter in network.heads.parameters()}
    assert not shared & heads
    assert shared | heads == {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in network.last_shared_layer()} <= shared


def test_the_order_in_which_modalities_are_named_does_not_matter():
    one, other = (create(modalities=names).state_dict() for names in (["audio", "video"], ["video", "audio"]))
    assert list(one) == list(other)


def test_input_settings_follow_preset_and_options():
    assert networks.input_settings("chae", "paper", {}) == InputSettings(6.0, 96)
    assert networks.input_settings("chae", "paper", {"max_seconds": 2}) == InputSettings(2.0, 96)
    assert networks.input_settings("chae", "small", {}).frame_size < 96


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "chea"}, r"^unknown network 'chea' \(known: .*chae.*\); did you mean 'chae'\?$"),
        (
            {"preset": "papper"},
            r"^unknown preset of network 'chae' 'papper' \(known: paper, small\); did you mean 'paper'\?$",
        ),
        ({"modalities": ["vidoe"]}, r"^unknown modality of network 'chae' 'vidoe' .*did you mean 'video'\?$"),
        ({"modalities": []}, r"needs at least one modality and none twice, got \[\]$"),
        ({"modalities": ["audio", "audio"]}, r"needs at least one modality and none twice, got \['audio', 'audio'\]$"),
        ({"tasks": []}, r"needs at least one task and none twice, got \[\]$"),
        ({"options": {"droput": 0.1}}, r"^unknown option of network 'chae' 'droput' .*did you mean 'dropout'\?$"),
        ({"options": {"preset": "paper"}}, r"^unknown option of network 'chae' 'preset'"),
        ({"options": {"dropout": 1.0}}, r"^network 'chae': dropout is 1.0, but it must be a number in \[0, 1\)$"),
        ({"options": {"dropout": "half"}}, r"dropout is 'half', but it must be a number in \[0, 1\)$"),
        ({"options": {"activation": "rleu"}}, r"activation is 'rleu', .* one of none, relu; did you mean 'relu'\?$"),
        ({"options": {"audio_norm": "var"}}, r"audio_norm is 'var', .* one of std, variance, clip, none"),
        ({"options": {"video_norm": "image-net"}}, r"video_norm is 'image-net', .*did you mean 'imagenet'\?$"),
        ({"options": {"readout": "first"}}, r"readout is 'first', but it must be one of last, mean"),
        ({"options": {"max_seconds": 0}}, r"max_seconds is 0, but it must be a number of at least 0.04 \(one frame\)$"),
        ({"options": {"pretrained": "x.pt"}}, r"pretrained needs preset 'paper' with the modality video$"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes, message):
    with pytest.raises(NetworkError, match=message) as caught:
        create(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [networks.presets, networks.modalities, networks.load])
def test_an_unknown_network_is_refused_everywhere(call):
    with pytest.raises(NetworkError, match="unknown network 'chai'"):
        call("chai")


def test_a_maximal_length_that_is_no_number_is_refused():
    with pytest.raises(NetworkError, match="max_seconds is True"):
        networks.input_settings("chae", "small", {"max_seconds": True})


def test_an_entry_that_is_no_network_is_refused(monkeypatch):
    entry = EntryPoint("wrong", "collections:OrderedDict", registry.GROUP)
    monkeypatch.setattr(registry.REGISTRY, "_builtins", {"wrong": entry})
    with pytest.raises(
        NetworkError, match=r"network 'wrong' is .*, which is not a subclass of trainables\.networks\.base\.Network"
    ):
        networks.load("wrong")


def test_listing_the_networks_imports_none():
    program = (
        "import sys; from trainables import networks; networks.names();"
        "sys.exit('trainables.networks.chae' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_small_network_needs_no_torchvision():
    program = (
        "import sys; from trainables import networks; from trainables.tasks import Task;"
        "networks.create('chae', preset='small', modalities=['audio', 'video'], tasks=[Task('gender', ('f', 'm'))]);"
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

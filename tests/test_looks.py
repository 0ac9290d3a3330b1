"""Names, colours and markers of strategies: the same in every sweep, and different for any kind of colour vision."""

from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle
from omegaconf import OmegaConf

from pipeline.reporting.looks import MARKERS, Look, hybrid, known, looks_of, looks_of_systems, strategy_name
from pipeline.values import CONF

SAMPLERS = ["crosslingual", "english", "hybrid", "hybrid_25", "hybrid_75", "mixed", "monolingual", "none"]
VISION = {  # Machado et al. 2009, severity 1, for linear RGB
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)


def lab(colour: str, vision: str) -> np.ndarray:
    """CIELAB of a colour as seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_strategy_of_the_project_has_a_look_of_its_own(sampler):
    look = known(sampler)
    assert look
    assert [other for other in SAMPLERS if known(other) == look] == [sampler]
    assert looks_of([sampler]) == {sampler: look}
    assert looks_of(["theirs", "mine", *SAMPLERS])[sampler] == look


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_by_any_vision(vision):
    colours = {name: lab(look.colour, vision) for name, look in looks_of([*SAMPLERS, "mine"]).items()}
    distances = {pair: np.linalg.norm(colours[pair[0]] - colours[pair[1]]) for pair in combinations(colours, 2)}
    assert min(distances.values()) > 10, min(distances, key=distances.get)


def test_names_say_the_alpha_of_their_yaml():
    for sampler in SAMPLERS:
        if "_" in sampler:
            alpha = OmegaConf.load(CONF / "sampler" / f"{sampler}.yaml").alpha
            assert strategy_name(sampler) == strategy_name(f"hybrid alpha={alpha}") == f"hybrid, alpha {f'{alpha}'[1:]}"
            assert known(sampler) == known(f"hybrid alpha={alpha}") == hybrid(alpha)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("none", "no training"),
        ("hybrid", "hybrid"),
        ("hybrid alpha=0.5", "hybrid, alpha .5"),
        ("hybrid alpha=1.0 languages_by=batch", "hybrid, alpha 1.0, languages by batch"),
        ("monolingual size_exponent=0.0", "monolingual, size exponent 0.0"),
        ("mine languages=['de', 'en']", "mine, languages ['de', 'en']"),
        ("my_batches", "my_batches"),
    ],
)
def test_a_name_is_what_people_type_with_its_settings(strategy, name):
    assert strategy_name(strategy) == name


def test_settings_of_one_strategy_share_its_colour_and_differ_in_the_marker():
    by_pair, by_batch = looks_of(["crosslingual languages_by=pair", "crosslingual languages_by=batch"]).values()
    assert by_pair == known("crosslingual")
    assert by_pair.colour == by_batch.colour
    assert by_pair.marker != by_batch.marker
    assert looks_of(["hybrid alpha=0.5"])["hybrid alpha=0.5"] == known("hybrid")


def test_other_names_take_what_is_free():
    names = [f"mine{i}" for i in range(60)]
    looks = looks_of([*SAMPLERS, *names])
    assert len(set(looks.values())) == len(looks)
    first = {name: looks[name] for name in names[:7]}
    assert first == looks_of(first)
    assert len({look.colour for look in first.values()}) == 7


def test_systems_of_several_models_share_the_colour_of_their_strategy():
    systems = pd.DataFrame([(f"{m}-{s}", m, s) for m in "ab" for s in ("none", "hybrid")])
    systems.columns = ["system", "model", "strategy"]
    looks = looks_of_systems(systems)
    assert len(set(looks.values())) == 4
    assert looks["a-none"].colour == looks["b-none"].colour == known("none").colour
    of_one_model = looks_of_systems(systems[systems["model"] == "a"])
    assert of_one_model == {"a-none": known("none"), "a-hybrid": known("hybrid")}
    of_one_strategy = looks_of_systems(systems[systems["strategy"] == "none"])
    assert list(of_one_strategy.values()) == list(looks_of("ab").values())


@pytest.mark.parametrize("marker", MARKERS)
def test_both_libraries_know_a_marker(marker):
    assert MarkerStyle(marker).is_filled()
    plotly.graph_objects.scatter.Marker(symbol=f"{Look('#000000', marker).symbol}-open-dot")

"""Every method with settings that take a moment: for tests that go through all of them."""

from vtclip.methods import METHODS
from vtclip.methods.base import Method, Recipe, Settings

SHORT = {
    "ape": {"alpha": [1.0, 2.0], "beta": [1.0], "gamma": [0.0, 0.5]},
    "ape_t": {"alpha": [1.0, 2.0], "beta": [1.0]},
    "coop": {"context": 2},
    "prograd": {"context": 2},
    "cross_modal": {"batch_size": [4], "iterations": 8},
    "linear_probe": {"inverse_regularisation": [0.1, 1.0], "iterations": 20},
    "lp_plus_plus": {"epochs": 12},
    "prolip": {"steps": 3},
    "two_stage": {"classifier_steps_per_shot": 2},
    "proker": {"beta": [1.0], "ridge": [0.1, 1.0]},
}


def short_settings(name: str) -> Settings:
    """The method's settings: of a training by gradient one epoch."""
    kind = METHODS[name].settings_type
    epoch: dict[str, object] = {"epochs": 1} if issubclass(kind, Recipe) else {}
    if METHODS[name].reads_images:
        epoch = {"steps_per_shot": 2, "template": "a {}."}
    return kind.model_validate(epoch | SHORT.get(name, {}))


def short_method(name: str) -> Method:
    """The method with them."""
    return METHODS[name](short_settings(name))


OF_FEATURES = [name for name in METHODS if not METHODS[name].reads_images]
OF_IMAGES = [name for name in METHODS if METHODS[name].reads_images]

"""The settings left out are the published ones, for each dataset."""

import pytest

from vtclip.methods import METHODS

DASSL = {"optimiser": "sgd", "learning_rate": 0.002, "weight_decay": 0.0005, "warmup": "epoch"}
COOP = DASSL | {"batch_size": 32}
PROBE = DASSL | {"learning_rate": 0.1, "weight_decay": 0.0, "batch_size": 256}
TIP = {"optimiser": "adamw", "learning_rate": 0.001, "epsilon": 1e-4, "batch_size": 256}
PLAIN, PETS = "a photo of a", "a type of pet, a photo of a"
FEWER = {1: 1.0, 8: 0.8}  # of three datasets, set by hand by the authors


@pytest.mark.parametrize(
    ("name", "dataset", "settings", "epochs"),  # at 1, 2, 4, 8 and 16 shots
    [
        ("coop", "digits", COOP | {"context": 16}, [50, 100, 100, 200, 200]),
        ("coop", "imagenet", COOP, [50] * 5),
        ("clip_adapter", "digits", COOP | {"ratio": 0.2}, [50, 100, 100, 200, 200]),
        ("kgcoop", "eurosat", DASSL | {"batch_size": 128, "words": PLAIN, "pull": 8}, [100] * 5),
        ("kgcoop", "eurosat", {"template": None}, [100] * 5),  # the dataset's is the published one
        ("kgcoop", "dtd", {"template": "a photo of a {}, a type of texture."}, [100] * 5),
        ("kgcoop", "imagenet", {"template": "a photo of a {}."}, [100] * 5),
        ("prograd", "dtd", COOP | {"context": 16, "removed": FEWER}, [50, 100, 100, 200, 200]),
        ("prograd", "dtd", {"words": "a texture of"}, [50, 100, 100, 200, 200]),
        ("prograd", "oxford_pets", {"words": PETS, "removed": 1.0}, [50, 100, 100, 200, 200]),
        ("prograd", "imagenet", {"words": PLAIN, "removed": 1.0}, [50] * 5),
        ("cocoop", "imagenet", DASSL | {"batch_size": 1, "words": PLAIN}, [10] * 5),
        ("zs_lp", "imagenet", PROBE, [300] * 5),
        ("clap", "imagenet", PROBE | {"penalty_weight": 1.0}, [300] * 5),
        ("taskres", "imagenet", {"optimiser": "adam", "alpha": 0.5}, [100, 100, 100, 200, 200]),
        ("taskres", "digits", {"batch_size": 256, "weight_decay": 5e-4}, [100] * 3 + [200] * 2),
        ("tip_adapter_f", "imagenet", TIP | {"last_batch": "keep"}, [20] * 5),
        ("tip_adapter_f", "eurosat", {"initial_alpha": 1.17, "initial_beta": 1}, [100] * 5),
        ("ape_t", "eurosat", {"channels": 900, "epsilon": 1e-3, "initial_alpha": 1}, [200] * 5),
        ("ape_t", "stanford_cars", {"learning_rate": 1e-3, "epsilon": 5e-3}, [30] * 5),
        ("ape_t", "digits", {"channels": 500, "weight_decay": 0.1, "initial_alpha": 2}, [20] * 5),
        ("vt_clip", "digits", {"learning_rate": None}, [50, 100, 100, 200, 200]),
    ],
)
def test_what_is_left_out_is_as_published(name, dataset, settings, epochs):
    found = METHODS[name].settings_type().for_dataset(dataset)
    assert {key: getattr(found, key) for key in settings} == settings
    assert [found.epochs_at(shots) for shots in (1, 2, 4, 8, 16)] == epochs


@pytest.mark.parametrize(
    ("name", "given"), [("kgcoop", {"template": "a {}"}), ("prograd", {"words": "one"}),
                        ("ape_t", {"epochs": 3}), ("ape", {"beta": [2.0]})],
)  # fmt: skip
def test_what_is_given_outdoes_the_published_of_every_dataset(name, given):
    for dataset in ("dtd", "eurosat", "imagenet"):
        found = METHODS[name].settings_type(**given).for_dataset(dataset)
        assert {key: getattr(found, key) for key in given} == given

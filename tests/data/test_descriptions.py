"""Sentences about classes: found, fetched, mapped to class names, or refused."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from vtclip.config.dataset import read_dataset
from vtclip.config.experiment import Descriptions
from vtclip.data.descriptions import find_archive, find_sentences, list_sets, read_set
from vtclip.data.fetch import Expected, FetchError, fetch_archive
from vtclip.data.inventory import list_addresses
from vtclip.settings import ConfigError

ELEVEN = (
    "caltech101", "dtd", "eurosat", "fgvc_aircraft", "flowers102", "food101", "imagenet",
    "oxford_pets", "stanford_cars", "sun397", "ucf101",
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sentences(name="cupl", dataset="caltech101", **keys):
    given = Descriptions(descriptions=name, **keys)
    return find_sentences(given, dataset, read_dataset(dataset), source="mine.yaml: texts")


def put(found, content) -> None:
    """Put a file where the set's is fetched to."""
    Path(found.file).parent.mkdir(parents=True, exist_ok=True)
    Path(found.file).write_text(content if isinstance(content, str) else json.dumps(content))


def test_cafo_and_ape_describe_all_eleven_datasets_and_cupl_all_but_eurosat():
    assert sorted(read_set("cafo").files) == sorted(read_set("ape").files) == list(ELEVEN)
    assert sorted(read_set("cupl").files) == [name for name in ELEVEN if name != "eurosat"]


def test_every_file_of_every_set_has_a_checksum_and_a_full_address():
    for name in list_sets():
        for dataset in read_set(name).files:
            archive = find_archive(name, dataset, None)
            assert archive.sha256 or archive.git_blob
            assert archive.urls[0].startswith("https://raw.githubusercontent.com/")
            assert archive.urls[0].endswith(".json")
            assert list_addresses(dataset, archive.file, mirror=None) == archive.urls


@pytest.mark.parametrize(
    ("dataset", "key", "name"),
    [
        ("caltech101", "off-center face", "face"),
        ("caltech101", "background", None),
        ("flowers102", "air plant", "ball moss"),
        ("oxford_pets", "British Shorthair", "british shorthair"),
        ("stanford_cars", "Acura RL Sedan 2012", "2012 Acura RL Sedan"),
        ("stanford_cars", "Ram CV Cargo Van Minivan 2012", "2012 Ram C/V Cargo Van Minivan"),
        ("sun397", "temple (east asia)", "east asia temple"),
        ("sun397", "abbey", "abbey"),
        ("ucf101", "Hand Stand Pushups", "Handstand Pushups"),
    ],
)
def test_cupls_keys_are_mapped_to_the_class_names_of_the_splits(dataset, key, name):
    found = sentences(dataset=dataset)
    put(found, {key: ["A sentence."], "other": ["Another."]})
    expected = [["Another."]] if name is None else [["A sentence."], ["Another."]]
    names = ["other"] if name is None else [name.replace(" ", "_"), "other"]
    assert found.read(names) == expected


def test_classes_of_one_name_share_its_sentences_by_name_and_not_by_position():
    found = sentences(dataset="imagenet")
    put(found, {"missile": ["It flies."], "cat": ["It purrs."]})
    assert found.read(["cat", "missile", "missile"]) == [
        ["It purrs."],
        ["It flies."],
        ["It flies."],
    ]


def test_a_dataset_of_some_of_imagenets_classes_reads_imagenets_sentences():
    found = sentences(dataset="imagenet_a")
    put(found, {"missile": ["It flies."], "cat": ["It purrs."]})
    assert found.read(["cat"]) == [["It purrs."]]


def test_templates_are_added_as_the_sets_authors_do_unless_the_user_says_otherwise():
    assert [sentences(name).with_templates for name in ("cafo", "cupl", "ape")] == [
        False, False, True,
    ]  # fmt: skip
    assert sentences("cupl", templates=True).with_templates
    assert not sentences("ape", templates=False).with_templates


def refused(found, content, names=("cat", "dog")) -> str:
    put(found, content)
    with pytest.raises(ConfigError) as error:
        found.read(names)
    return str(error.value)


def test_a_missing_class_and_an_unknown_key_are_one_error_with_the_likely_pair():
    said = refused(sentences(), {"cat": ["It purrs."], "Dog": ["It barks."]})
    assert "descriptions-cupl.json: its keys are not the class names" in said
    assert "no sentence for the class 'dog'" in said
    assert "no class is called 'Dog' Did you mean 'dog'?" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"cat": ["a"], "cat": ["b"], "dog": ["c"]}', "'cat' is there twice"),
        ({"cat": "It purrs.", "dog": ["b"]}, "'cat': expected JSON, from each class's name"),
        ({"cat": ["a", ""], "dog": ["b"]}, "'cat': expected JSON"),
        ({"cat": [3], "dog": ["b"]}, "'cat': expected JSON"),
        ({}, "a list of sentences, found none"),
        ({"cat": [], "dog": ["b"]}, "'cat' has no sentence"),
        ([["cat", ["a"]]], "found a list"),
        ("{", "not readable as JSON"),
    ],
)
def test_a_file_of_another_form_is_refused_by_its_class(content, said):
    assert said in refused(sentences(), content)


def test_a_file_that_changed_since_it_was_fetched_is_refused():
    found = sentences()
    put(found, {"cat": ["It purrs."]})
    digest = hashlib.sha256(Path(found.file).read_bytes()).hexdigest()
    Path(found.receipt).write_text(json.dumps({"sha256": digest}))
    assert found.read(["cat"]) == [["It purrs."]]
    put(found, {"cat": ["It barks."]})
    with pytest.raises(
        ConfigError, match=f"changed since it was fetched: expected sha256 {digest}"
    ):
        found.read(["cat"])


def test_an_unknown_set_and_a_dataset_without_sentences_are_refused_with_what_there_is():
    with pytest.raises(ConfigError, match="Unknown set of descriptions 'cup'; known: ape, cafo"):
        sentences("cup")
    with pytest.raises(ConfigError, match="cupl has no sentences for eurosat") as error:
        sentences(dataset="eurosat")
    assert "ape or cafo or a JSON file of your own" in str(error.value)
    with pytest.raises(ConfigError, match=r"there is no such file: birds/digits\.json"):
        sentences("birds/{dataset}.json", "digits")


def test_a_users_set_is_one_yaml_file(here):
    (here / "config" / "descriptions").mkdir(parents=True)
    described = read_set("cafo").model_dump() | {"files": {"digits": {"file": "d.json"}}}
    (here / "config" / "descriptions" / "mine.yaml").write_text(yaml.safe_dump(described))
    assert find_archive("mine", "digits", None).urls[0].endswith("/gpt_file/d.json")


def test_a_file_is_verified_by_its_name_in_git(here):
    content = b'{"cat": ["It purrs."]}'
    (here / "a.json").write_bytes(content)
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    where = [str(here / "a.json")], here / "b.json", here / "b.json.json"
    fetch_archive(*where, Expected(git_blob=blob))
    assert (here / "b.json").read_bytes() == content
    (here / "b.json").unlink()
    with pytest.raises(FetchError, match=f"expected git_blob {'0' * 40}, found {blob}"):
        fetch_archive(*where, Expected(git_blob="0" * 40))


def test_a_changed_file_on_the_server_is_one_error_with_both_checksums(server, here):
    server.behaviours["/b.json"] = lambda handler, number: handler.serve(number, content=b"{}")
    blob = read_set("cafo").files["imagenet"].git_blob
    where = [server.address("/b.json")], here / "b.json", here / "b.json.json"
    with pytest.raises(FetchError, match=f"expected git_blob {blob}, found"):
        fetch_archive(*where, Expected(git_blob=blob))
    assert not (here / "b.json").exists()

"""Texts of descriptions in the plan: what is fetched, where the texts are, and what is refused."""

import json

import pytest

from tests.plan.conftest import job, planned
from tests.plan_jobs import list_again, list_jobs
from vtclip.data.descriptions import read_set
from vtclip.paths import distinct
from vtclip.plan import shown
from vtclip.settings import ConfigError


@pytest.fixture
def own(here, demo):
    """The demo with sentences of the user's for digits, whose classes a job draws first."""

    def write(**changes):
        content = {str(digit): [f"the digit {digit}"] for digit in range(10)} | changes
        (here / "digits.json").write_text(json.dumps(content))
        return demo | {"datasets": ["digits"], "texts": {"descriptions": "{dataset}.json"}}

    return write


def test_the_path_of_the_texts_says_which_they_are(paper, own):
    paper["datasets"] = ["dtd"]

    def name(texts):
        found = distinct(planned(paper, "config/config.yaml", texts=texts).index(), "texts")
        return found[0].rpartition("/")[2]

    assert name("templates") == "texts.parquet"
    assert name({"descriptions": "cupl"}) == "texts-cupl.parquet"
    assert name({"descriptions": "cupl", "templates": True}) == "texts-cupl-with-templates.parquet"
    assert name({"descriptions": "ape", "templates": False}) == "texts-ape-alone.parquet"
    run = planned(own()).index()[0]
    assert run.texts.endswith("/texts-file-dataset.parquet")


def test_a_sets_files_are_fetched_like_archives_for_every_dataset(paper):
    plan = planned(
        paper, "config/config.yaml", texts={"descriptions": "cafo"}, methods={"gda": None}
    )
    file = "resources/archives/dtd/descriptions-cafo.json"
    assert f"{file}.json" in plan.archives
    fetched = job(plan, "fetch_archive", "dtd", "descriptions-cafo.json").params
    assert fetched["destination"] == file
    assert fetched["expected"]["sha256"] == read_set("cafo").files["dtd"].sha256
    texts = job(plan, "extract_texts", "RN50-quickgelu-openai", "dtd")
    assert texts.params["sentences"]["file"] == file
    assert texts.inputs["descriptions"] == f"{file}.json"
    assert any("CaFo's descriptions, without templates" in note for note in shown.list_notes(plan))


def test_an_archives_own_job_is_as_before(paper):
    plan = planned(paper, "config/config.yaml")
    expected = job(plan, "fetch_archive", "dtd", plan.datasets["dtd"].archives[0].file).params
    assert set(expected["expected"]) == {"bytes", "sha256", "md5"}


def test_other_texts_make_texts_heads_and_predictions_again_and_no_image_features(demo, own):
    config = own()
    again = list_again(planned(config, texts="templates"), planned(config))
    made = list_jobs(planned(config))
    assert {path for path in again if "/features/" in path} == {
        path for path in made if "/texts-file-dataset" in path
    }
    assert {path for path in made if "/heads/" in path} <= again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"3": ["very " * 20]}, "digits.json: a sentence is longer than the text tower reads"),
        ({"3": []}, "digits.json: '3' has no sentence"),
        ({"3": [""]}, "digits.json: '3': expected JSON"),
    ],
)
def test_sentences_that_cannot_be_read_are_refused_before_the_first_job(own, changes, said):
    with pytest.raises(ConfigError) as error:
        planned(own(**changes))
    assert said in str(error.value)


def test_classes_that_are_known_are_compared_with_the_keys_before_the_first_job(own, here):
    folder = here / "resources" / "images" / "digits"
    folder.mkdir(parents=True)
    rows = [[f"{digit}.png", digit, str(digit)] for digit in range(10)]
    (folder / "split.json").write_text(json.dumps(dict.fromkeys(("train", "val", "test"), rows)))
    planned(own())
    with pytest.raises(ConfigError, match="no class is called 'ten'"):
        planned(own(ten=["one more"]))


def test_descriptions_that_are_not_there_are_refused_by_their_key(demo):
    with pytest.raises(ConfigError, match="cafo has no sentences for digits"):
        planned(demo, texts={"descriptions": "cafo"})
    with pytest.raises(ConfigError, match="there is no such file: mine/digits.json"):
        planned(demo, texts={"descriptions": "mine/{dataset}.json"})
    with pytest.raises(ConfigError, match="texts"):
        planned(demo, texts="cupl")


def test_a_users_file_where_the_workflow_writes_is_refused(own, here):
    config = own()
    (here / "results" / "demo").mkdir(parents=True)
    (here / "digits.json").rename(here / "results" / "demo" / "digits.json")
    with pytest.raises(ConfigError, match="the workflow itself writes there"):
        planned(config, texts={"descriptions": "results/demo/{dataset}.json"})

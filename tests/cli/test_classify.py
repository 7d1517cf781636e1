import csv
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext

import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.cli.conftest import NAMES, WEIGHTS, save_weights
from tests.pretend import pretend_gpu
from tests.project import ROOT
from tests.runtime.test_devices import start_holder, taken
from vtclip.__main__ import main
from vtclip.data.layouts import SCHEMA
from vtclip.data.walk import SPLITS
from vtclip.features.extract import extract_test
from vtclip.features.texts import read_texts, write_texts
from vtclip.files import owner, read_record, write_record
from vtclip.inference.classifier import load_classifier
from vtclip.inference.saved import SavedError
from vtclip.methods.vt_clip import VTClip
from vtclip.nn.towers import Towers
from vtclip.parquet import write_parquet
from vtclip.runtime.devices import PRETEND
from vtclip.training.predict import TrainedHead, predict_test

RUN = "mine/pets/vt_clip/1shot-seed1"
FOLDER = "results/mine/heads/glyph-clip-mine/pets/vt_clip/1shot-seed1"
CPU = torch.device("cpu")


def classify(capsys, *arguments):
    """Exit status, and what was printed to both outputs."""
    status = main(["classify", *map(str, arguments), "--device", "cpu"])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_gpu_gives_the_same_probabilities_and_attention(here, monkeypatch, capsys):
    said = []
    for kind in ("cpu", "cuda"):
        with pretend_gpu() if kind == "cuda" else nullcontext(CPU) as device:
            monkeypatch.setattr(
                "vtclip.runtime.devices.lease_device", lambda *_, **__: nullcontext(device)
            )
            main(["classify", RUN, "0.png", "1.png", "--json", "--attention", kind])
        tops = [image["top"] for image in json.loads(capsys.readouterr().out)]
        said.append({entry["class"]: entry["probability"] for top in tops for entry in top})
        assert len(list((here / kind).glob("*.svg"))) == 2
    assert said[1] == pytest.approx(said[0], abs=1e-5)


@pytest.mark.parametrize(
    ("method", "shots"),
    [("zero_shot", 0), ("linear_probe", 1), ("vt_clip", 1), ("cocoop", 1), ("clip_lora", 1)],
)
def test_probabilities_are_those_of_the_workflow(here, method, shots):
    named = f"{method}/{shots}shot-seed{shots}"
    rows = [(f"{number}.png", number, NAMES[number], SPLITS[2]) for number in range(3)]
    write_parquet("manifest.parquet", pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    classifier = load_classifier(f"mine/pets/{named}")
    extract_test(
        classifier.backbone, "manifest.parquet", here, "test.parquet", batch_size=64, workers=0
    )
    run = here / "results/mine/heads/glyph-clip-mine/pets" / named
    predict_test(
        method, classifier.description.settings,
        "results/features/glyph-clip-mine/pets/texts.parquet",
        [TrainedHead(shots, 1, run / "head.safetensors")], ["test.parquet"], "predictions.parquet",
        device=torch.device("cpu"), tower=Towers(classifier.backbone), images=str(here),
        manifest="manifest.parquet" if method == "clip_lora" else None,
    )  # fmt: skip
    expected = pl.read_parquet("predictions.parquet")
    found = [prediction.top(1)[0] for prediction in classifier.predict(expected["image"])]
    assert [NAMES.index(name) for name, _ in found] == expected["prediction"].to_list()
    assert [p for _, p in found] == pytest.approx(expected["confidence"].to_list(), abs=1e-5)


def test_a_run_is_named_by_its_folder_its_head_its_name_and_with_the_backbone(here, capsys):
    names = (FOLDER, f"{FOLDER}/head.safetensors", RUN, "mine/glyph-clip-mine/" + RUN[5:])
    said = {classify(capsys, name, "0.png") for name in names}
    assert len(said) == 1
    status, out, _ = said.pop()
    assert status == 0
    assert out.splitlines()[0] == "0.png"
    assert all(name in out for name in NAMES)


def test_an_exported_file_classifies_in_an_empty_folder_as_the_run_does(
    here, tmp_path, monkeypatch, capsys
):
    _, expected, _ = classify(capsys, RUN, here / "0.png", "--json")
    assert main(["export", RUN, "small.safetensors"]) == 0
    assert main(["export", RUN, "whole.safetensors", "--with-backbone"]) == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    for file in ("small.safetensors", "whole.safetensors"):
        shutil.move(here / file, empty / file)
    monkeypatch.chdir(empty)
    capsys.readouterr()
    status, found, _ = classify(capsys, "whole.safetensors", here / "0.png", "--json")
    assert (status, json.loads(found)) == (0, json.loads(expected))
    status, _, error = classify(capsys, "small.safetensors", here / "0.png")
    assert status == 2
    assert "the weights of its backbone are not here" in error
    weights = here / WEIGHTS
    status, found, _ = classify(
        capsys, "small.safetensors", here / "0.png", "--json", "--backbone", weights
    )
    assert (status, json.loads(found)) == (0, json.loads(expected))


def test_the_copy_of_a_backbone_that_a_killed_command_left_is_removed(
    here, tmp_path, monkeypatch, capsys
):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"vtclip-{owner().replace(str(os.getpid()), str(ended.pid))}.abc_1234"
    left.mkdir()
    (left / "weights.safetensors").write_text("a copy")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["export", RUN, "whole.safetensors", "--with-backbone"]) == 0
    assert classify(capsys, "whole.safetensors", "0.png")[0] == 0
    assert not list(tmp_path.glob("vtclip-*"))


def test_whatever_the_locale_output_is_utf_8_and_names_that_are_not_are_named(here, monkeypatch):
    (here / "photos").mkdir()
    for name in ("grün.png", "caf\udce9.png"):
        shutil.copy("0.png", here / "photos" / name)
    out, said = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", said)
    assert main(["classify", RUN, "photos", "--json"]) == 0
    (found,) = json.loads(out.buffer.getvalue().decode())
    assert found["image"] == "photos/grün.png"
    assert main(["classify", RUN, "photos/caf\udce9.png"]) == 2
    said.flush()
    lines = said.buffer.getvalue().decode().splitlines()
    assert lines[0] == "photos/caf\\xe9.png: skipped: its name is not UTF-8"
    assert lines[-1] == "vtclip: photos/caf\\udce9.png: its name is not UTF-8: rename it."


def test_an_empty_name_is_not_taken_for_the_current_folder(here, capsys):
    status, out, error = classify(capsys, RUN, "")
    assert (status, out) == (2, "")
    assert error == "vtclip: IMAGE: an empty name, as of a variable that is not set.\n"


def test_folders_and_patterns_give_their_pictures_and_csv_a_line_an_image_and_class(here, capsys):
    (here / "more").mkdir()
    Image.new("RGB", (9, 9)).save(here / "more" / "3.jpg")
    (here / "more" / "notes.txt").write_text("no picture")
    status, out, _ = classify(capsys, RUN, "more", "[01].png", "--csv", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0
    assert [(row["image"], row["rank"]) for row in rows] == [
        (image, rank) for image in ("more/3.jpg", "0.png", "1.png") for rank in "12"
    ]
    assert {row["class"] for row in rows} <= set(NAMES)


def test_bad_images_are_reported_and_counted_and_the_others_go_on(here, capsys):
    (here / "empty.png").touch()
    (here / "text.jpg").write_text("no picture")
    status, out, error = classify(
        capsys, RUN, "empty.png", "0.png", "text.jpg", "none.png", "1.png", "--json"
    )
    found = json.loads(out)
    assert status == 1
    assert [entry["image"] for entry in found if "top" in entry] == ["0.png", "1.png"]
    assert "empty.png: the file is empty" in error
    assert "text.jpg: Pillow cannot read it as an image" in error
    assert "none.png: there is no such file" in error
    assert "3 of 5 images could not be classified" in error


def read_upright(folder, exif):
    """Let the texts say how the dataset's images are read, as `extract_texts` does."""
    path = folder / "results/features/glyph-clip-mine/pets/texts.parquet"
    texts, made = read_texts(path)
    write_texts(path, NAMES, texts, made | {"exif": exif})


@pytest.mark.parametrize("exif", ["upright", "ignore"])
def test_images_are_turned_for_a_head_that_was_trained_on_turned_ones_and_for_no_other(
    here, capsys, exif
):
    exif_data = Image.Exif()
    exif_data[0x0112] = 6
    photograph = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    stored = photograph.transpose(Image.Transpose.ROTATE_90)
    photograph.save("upright.png")
    stored.save("stored.png")
    stored.save("turned.png", exif=exif_data)
    read_upright(here, exif)
    assert main(["export", RUN, "exported.safetensors"]) == 0
    capsys.readouterr()
    for head in (RUN, "exported.safetensors"):
        classifier = load_classifier(head)
        upright, as_stored, turned = (
            prediction.probabilities
            for prediction in classifier.predict(["upright.png", "stored.png", "turned.png"])
        )
        # Rows of one batch may differ in their last bits.
        torch.testing.assert_close(turned, upright if exif == "upright" else as_stored)
        assert not torch.allclose(upright, as_stored, atol=1e-3)


def test_a_head_whose_features_were_read_otherwise_than_its_dataset_is_now_is_refused(here):
    read_upright(here, "upright")
    record = read_record(f"{FOLDER}/run.json")
    record["features"]["exif"] = "ignore"
    write_record(f"{FOLDER}/run.json", record)
    with pytest.raises(SavedError, match=r"(?s)found: +exif: upright.*expected: exif: ignore"):
        load_classifier(RUN)


def test_a_gpu_without_memory_for_a_head_is_not_taken_for_a_damaged_head(here, monkeypatch):
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(VTClip, "classifier", fill)
    with pytest.raises(torch.OutOfMemoryError):
        load_classifier(RUN)


def test_attention_is_drawn_for_vt_clip_and_refused_for_another_method(here, capsys):
    status, _, _ = classify(capsys, RUN, "0.png", "1.png", "--attention", "looks")
    assert status == 0
    assert {file.name for file in (here / "looks").glob("*.png")} == {"1-0.png", "2-1.png"}
    probe = "mine/pets/linear_probe/1shot-seed1"
    status, _, error = classify(capsys, probe, "0.png", "--attention", "other")
    assert status == 2
    assert "Linear probe does not attend" in error


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("mine/pets/vt_clip/4shot-seed1", "Did you mean mine/pets/vt_clip/1shot-seed1"),
        ("nothing.safetensors", "there is no such file or folder, and no such run"),
        ("results", "no head is in this folder"),
        ("0.png", "not a file of `vtclip export`"),
        (WEIGHTS, "a safetensors file, but not one of `vtclip export`"),
    ],
)
def test_what_is_no_head_is_refused_with_what_was_expected(here, capsys, head, words):
    status, out, error = classify(capsys, head, "0.png")
    assert (status, out) == (2, "")
    assert head in error
    assert words in error


def test_an_output_that_is_read_in_part_is_no_error(here):
    command = [sys.executable, "-m", "vtclip", "classify", RUN, "0.png", "--device", "cpu"]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    run.stdout.close()  # as `head` does
    assert "Broken pipe" not in run.stderr.read()
    assert run.wait() == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="Macs have it")
def test_apples_gpu_is_refused_on_another_machine(here, capsys):
    assert main(["classify", "mine/pets/zero_shot/0shot-seed0", "0.png", "--device", "mps"]) != 0
    assert "only Macs have an Apple GPU" in capsys.readouterr().err


def test_a_head_of_another_backbone_is_refused(here, capsys):
    main(["export", RUN, "small.safetensors"])
    capsys.readouterr()
    save_weights(here / "other.safetensors", seed=5)
    status, _, error = classify(
        capsys, "small.safetensors", "0.png", "--backbone", "other.safetensors"
    )
    assert status == 2
    assert "goes with another backbone" in error


def test_a_head_with_other_tensors_than_its_settings_ask_for_is_refused(here, capsys):
    head = here / FOLDER / "head.safetensors"
    save_file({"weight": torch.zeros(3, 3)}, head)
    (here / FOLDER / "run.json").write_text(
        json.dumps(
            {k: v for k, v in json.loads((here / FOLDER / "run.json").read_text()).items()
             if k not in ("sha256", "bytes", "seal")}
        )
    )  # fmt: skip
    status, _, error = classify(capsys, RUN, "0.png")
    assert status == 2
    assert "its tensors are not those of a head of vt_clip" in error


def test_a_damaged_head_is_refused(here, capsys):
    head = here / FOLDER / "head.safetensors"
    content = bytearray(head.read_bytes())
    content[-5] ^= 1
    head.write_bytes(content)
    status, _, error = classify(capsys, RUN, "0.png")
    assert status == 2
    assert "the file is damaged" in error


@pytest.fixture
def taken_gpu(monkeypatch, tmp_path):
    """A GPU that another process has leased."""
    monkeypatch.setenv("VTCLIP_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    holder = start_holder(tmp_path / "leases", "0")
    assert taken(holder) == ("0", "0")
    yield
    holder.kill()
    holder.wait()


def test_beside_a_job_that_has_the_gpu_the_cpu_classifies_and_says_so(here, taken_gpu, capsys):
    assert main(["classify", RUN, "0.png"]) == 0
    said = capsys.readouterr()
    assert NAMES[2] in said.out
    assert "Every GPU is taken by another job.\nComputing on the CPU." in said.err


def test_a_slot_that_jobs_leave_free_is_taken(here, taken_gpu, tmp_path, monkeypatch, capsys):
    (lock,) = (tmp_path / "leases").glob("*/gpu-0-slot0.lock")
    lock.with_name("gpu-0-slot1.lock").touch()  # as jobs with `slots_per_gpu: 2` leave it
    monkeypatch.setenv(PRETEND, "1")
    assert main(["classify", RUN, "0.png"]) == 0
    assert "taken" not in capsys.readouterr().err


def test_who_insists_on_the_gpu_waits_and_reads_what_for(here, taken_gpu, caplog, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vtclip.runtime.gpus.time.sleep", stop)
    assert main(["classify", RUN, "0.png", "--device", "cuda"]) == 130
    assert "Every GPU is taken: waiting. The leases are in" in caplog.text


def test_a_head_that_is_not_there_is_reported_before_any_wait(here, taken_gpu, capsys):
    assert main(["classify", "mine/pets/none/1shot-seed1", "0.png", "--device", "cuda"]) == 2
    assert "no such run" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_with_a_gpu_that_does_not_work_the_cpu_classifies_and_the_reason_is_shown(
    here, monkeypatch, capsys
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert main(["classify", RUN, "0.png"]) == 0
    said = capsys.readouterr().err
    assert "GPU 0 is assigned, but PyTorch" in said
    assert "Computing on the CPU." in said

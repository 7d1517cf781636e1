"""Tables of labels become the manifest of class folders, or are refused with one clear error."""

import json
import random
import shutil
from pathlib import PurePosixPath

import pytest

from vtclip.data.label_table import read_table
from vtclip.data.layouts import read_layout
from vtclip.data.walk import ManifestError

CLASSES = ("crane", "grey heron", "stork")


@pytest.fixture
def folder(tmp_path):
    """Class folders of a hundred empty files."""
    for number, name in enumerate(CLASSES):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for image in range(100):
            (tmp_path / "birds" / name / f"{number}-{image}.jpg").touch()
    return tmp_path / "birds"


@pytest.fixture
def rows(folder):
    """Path and label of each image, in no order."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    random.Random(0).shuffle(paths)
    return [(path, path.partition("/")[0]) for path in paths]


def write_csv(file, *lines):
    file.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
    return file


def described(layout, **more):
    return {"layout": layout, "class_names": {}, "fractions": {"train": 0.5, "val": 0.2}} | more


def read(file, folder, **more):
    return read_layout(described("table", table=str(file), **more), folder)


def test_a_csv_a_kaggle_form_an_imagefolder_and_a_folder_give_the_same_manifest(
    tmp_path, folder, rows
):
    expected = read_layout(described("folders"), folder)
    assert expected.height == 300
    numbered = [(path, label, number) for number, (path, label) in enumerate(rows)]
    plain = write_csv(tmp_path / "labels.csv", ("image", "species", "number"), *numbered)
    assert read(plain, folder).equals(expected)
    stems = [(PurePosixPath(path).stem, label) for path, label in rows]
    assert read(write_csv(tmp_path / "train.csv", ("id", "breed"), *stems), folder).equals(expected)
    hugging = tmp_path / "hugging"
    shutil.copytree(folder, hugging)
    lines = [json.dumps({"file_name": path, "label": label}) for path, label in rows]
    (hugging / "metadata.jsonl").write_text("\n".join(lines))
    assert read(hugging / "metadata.jsonl", hugging).equals(expected)


FORMS = {
    "absolute": lambda path, folder: str(folder / path),
    "from the table": lambda path, folder: f"birds/{path}",
    "Windows": lambda path, folder: path.replace("/", "\\"),
    "name": lambda path, folder: PurePosixPath(path).name,
    "from a folder further up": lambda path, folder: f"./birds/{path}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=[*FORMS])
def test_images_are_found_in_every_form_in_which_tables_name_them(tmp_path, folder, rows, form):
    written = [(form(path, folder), label) for path, label in rows]
    table = write_csv(tmp_path / "labels.csv", ("where", "what"), *written)
    assert read(table, folder).equals(read_layout(described("folders"), folder))


def test_columns_are_found_by_content_and_a_split_column_is_kept(tmp_path, folder, rows):
    splits = [("training", "dev", "test")[number % 3] for number in range(len(rows))]
    lines = [(label, split, path) for (path, label), split in zip(rows, splits, strict=True)]
    table = write_csv(tmp_path / "labels.csv", ("kind", "part", "photo"), *lines)
    dataset = {"table": str(table)}
    columns = {"path": "photo", "label": "kind", "split": "part"}
    assert read_table(dataset, folder).columns == columns
    manifest = read(table, folder)
    found = dict(zip(manifest["image"], manifest["split"], strict=True))
    expected = {"training": "train", "dev": "val", "test": "test"}
    assert found == {path: expected[split] for _, split, path in lines}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n,"])
def test_every_end_of_lines_and_blank_rows_at_the_end_are_read(tmp_path, folder, rows, end):
    table = tmp_path / "labels.csv"
    lines = ["path,label", *map(",".join, rows)]
    table.write_bytes((("\n" if "," in end else end).join(lines) + 3 * end).encode())
    assert read(table, folder).equals(read_layout(described("folders"), folder))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_quotes_and_a_byte_order_mark_are_read(tmp_path, folder, separator):
    (folder / "a,b.jpg").touch()
    lines = [("file", "label"), ('"a,b.jpg"', "odd"), *((f"{n}-0.jpg", "even") for n in range(3))]
    table = tmp_path / "labels.csv"
    table.write_text("\ufeff" + "\r\n".join(separator.join(line) for line in lines), "utf-8")
    assert ("a,b.jpg", "odd", "") in read_table({"table": str(table)}, folder).rows


HEADER = ("path", "label")
BROKEN = {
    "an empty file": (b"", "the table is empty"),
    "a header alone": (b"path,label\n", "has no row of values"),
    "another encoding": (b"path,label\nx.jpg,h\xe9ron\n", "line 2 is not in UTF-8"),
    "UTF-16": ("path,label\nx.jpg,heron\n".encode("utf-16"), "line 1 is not in UTF-8"),
    "a row with more values": ("+\na,b,c,d,e", "cannot be read"),
    "a missing image": ("+\ncrane/lost.jpg,crane", "1 of 301 images are missing"),
    "an image without a label": ("+\ncrane/more.jpg,", "1 of 301 rows have no label: row 302"),
    "a label without an image": ("+\n,crane", "1 of 301 rows have no image: row 302"),
    "one image with two labels": ("+\ncrane/0-0.jpg,stork", "row 302 with 'stork'"),
    "one image twice": ("+\ncrane/0-0.jpg,crane", "is in two rows"),
    "several labels": ("+\ncrane/more.jpg,crane|stork", "row 302 has several labels: crane|stork"),
    "several labels with a slash": ("+\ncrane/more.jpg,crane/stork", "has several labels: crane/"),
    "several labels with blanks": ("+\ncrane/more.jpg,stork crane", "several labels: stork crane"),
    "a list of labels": ("+\ncrane/more.jpg,\"['x', 'y']\"", "several labels: ['x', 'y']"),
    "no header": (b"crane/0-0.jpg,a\ncrane/0-1.jpg,a\nstork/2-0.jpg,b\n", "the first row is that"),
    "two columns of one name": (b"path,label, label\nx,a,a\n", "two columns have one name: label"),
    "a column twice": (b"path,label,label\nx,a,b\n", "two columns have one name: label"),
    "a split that is none": (
        b"path,label,split\ncrane/0-0.jpg,a,train\ncrane/0-1.jpg,a,eval\nstork/2-0.jpg,b,train\n",
        "row 3 has the split 'eval' in column 'split'",
    ),
    "splits without a test": (
        b"path,label,part\ncrane/0-0.jpg,a,train\ncrane/0-1.jpg,a,val\nstork/2-0.jpg,b,train\n",
        "the splits train, val, by column 'part'",
    ),
    "labels that differ by case": ("+\ncrane/more.jpg,Crane", "'Crane' (1 row) and 'crane' (100"),
    "labels that differ by blanks": ("+\ncrane/more.jpg, crane", "' crane' (1 row)"),
    "no column of images": (b"a,b\n1,2\n1,3\n2,2\n", "no column names images of"),
    "names in another case": (
        b"path,label\n0-0.JPG,a\n0-1.JPG,a\n2-0.JPG,b\n",
        "0-0.jpg (not '0-0.JPG': upper and lower case count)",
    ),
    "no column of labels": (b"path\ncrane/0-0.jpg\nstork/2-0.jpg\n", "no column can be the labels"),
    "one label": (b"path,label\ncrane/0-0.jpg,x\nstork/2-0.jpg,x\n", "no column can be the labels"),
    "two columns of labels": (
        b"path,sex,age\ncrane/0-0.jpg,f,1\nstork/2-0.jpg,m,1\ncrane/0-1.jpg,f,2\n",
        "several columns may be the labels",
    ),
    "a column per class": (
        b"path,crane,stork\ncrane/0-0.jpg,1,0\nstork/2-0.jpg,0,1\ncrane/0-1.jpg,1,0\n",
        "crane, stork contain 0 and 1",
    ),
    "a name of two files": (
        b"path,label\nsame.jpg,a\n0-0.jpg,a\n0-1.jpg,b\n", "'same.jpg' may be several images",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=[*BROKEN])
def test_a_broken_table_gives_one_clear_error(tmp_path, folder, rows, content, said):
    table = tmp_path / "labels.csv"
    if isinstance(content, str):  # good rows, and a bad one
        (folder / "crane/more.jpg").touch()
        write_csv(table, HEADER, *rows)
        content = content.replace("+\n", table.read_text()).encode()
    for name in CLASSES[:2]:
        (folder / name / "same.jpg").touch()
    table.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read(table, folder)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{table}: ")


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("labels.xlsx", "PK", {}, "the suffix of a table of labels is .csv or .tsv"),
        ("one.csv", "path,label\n0-0.jpg,x\n0-1.jpg,x\n", {"label": "label"}, "two labels or more"),
        (
            "test.csv", "path,label,split\n0-0.jpg,x,test\n2-0.jpg,y,test\n",
            {"label": "label", "split": "split"}, "there is no image to train with",
        ),
    ],
)  # fmt: skip
def test_a_table_that_nothing_can_be_learned_from_is_refused(
    tmp_path, folder, name, content, columns, said
):
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=f"{name}.*{said}"):
        read(tmp_path / name, folder, columns=columns)


LISTS = {
    "several labels": (["crane", "stork"], r'row 301 has several labels: \["crane", "stork"\]'),
    "no label": ([], "1 of 301 rows have no label: row 301"),
}


@pytest.mark.parametrize(("labels", "said"), LISTS.values(), ids=[*LISTS])
def test_lists_in_json_lines_are_one_label_each(tmp_path, folder, rows, labels, said):
    lines = [{"file_name": path, "labels": [label]} for path, label in rows]
    table = tmp_path / "metadata.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    assert read(table, folder).equals(read_layout(described("folders"), folder))
    (folder / "more.jpg").touch()
    lines.append({"file_name": "more.jpg", "labels": labels})
    table.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ManifestError, match=said):
        read(table, folder)


@pytest.mark.parametrize(("ending", "said"), [("holdout", "'holdout'"), ("", "have no split")])
def test_a_named_split_that_is_none_is_refused(tmp_path, folder, rows, ending, said):
    lines = [(path, label, ("train", "test")[n % 2]) for n, (path, label) in enumerate(rows)]
    lines[-1] = (*lines[-1][:2], ending)
    table = write_csv(tmp_path / "labels.csv", ("path", "label", "split"), *lines)
    with pytest.raises(ManifestError, match=said):
        read(table, folder, columns={"split": "split"})


def test_images_below_split_folders_have_the_split_of_their_folder(tmp_path):
    rows = [(f"{part}/{n}.jpg", "ab"[n % 2]) for part in ("Train", "test") for n in range(4)]
    for path, _ in rows:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    table = write_csv(tmp_path / "metadata.csv", ("file_name", "label"), *rows)
    manifest = read(table, tmp_path)
    assert manifest["split"].to_list() == ["train"] * 4 + ["test"] * 4
    (tmp_path / "other").mkdir()
    (tmp_path / "Train/0.jpg").rename(tmp_path / "other/0.jpg")
    write_csv(table, ("file_name", "label"), ("other/0.jpg", "a"), *rows[1:])
    assert {split for *_, split in read_table({"table": str(table)}, tmp_path).rows} == {""}


def test_columns_without_a_name_are_left_unused(tmp_path, folder, rows):
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label, ,", *(f"{','.join(row)},," for row in rows)]))
    assert read_table({"table": str(table)}, folder).unused == ["(no name)", "(no name)"]


def test_a_line_that_is_no_json_object_is_named(tmp_path, folder):
    table = tmp_path / "labels.jsonl"
    table.write_text('{"path": "crane/0-0.jpg", "label": "a"}\n \n["oops"]\n')
    with pytest.raises(ManifestError, match="line 3 is no JSON object"):
        read(table, folder)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"columns": {"label": "path"}}, "one column is named twice"),
        ({"columns": {"label": "lable"}}, "no column 'lable'.*Did you mean 'label'"),
        ({"class_names": {"krane": "crane"}}, "no label 'krane'.*Did you mean 'crane'"),
    ],
)
def test_a_column_or_a_label_that_is_not_there_is_named(tmp_path, folder, rows, more, said):
    table = write_csv(tmp_path / "labels.csv", HEADER, *rows)
    with pytest.raises(ManifestError, match=said):
        read(table, folder, **more)


def test_class_names_stand_for_labels_in_the_manifest(tmp_path, folder, rows):
    table = write_csv(tmp_path / "labels.csv", HEADER, *rows)
    manifest = read(table, folder, class_names={"crane": "sarus crane"})
    assert manifest.filter(class_name="sarus crane")["label"].unique().to_list() == [0]

"""Text features of ImageNet's classes: batches cut behind their ends, against a class at a time.

The present way is measured against the one that it took the place of: each class's prompts alone,
all tokens of them. Both run in turn in one process, on some of the classes spread over all of
them; random weights.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import open_clip
import torch
import torch.nn.functional as F
from measuring import describe_device, time_in_turn

from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.config.dataset import read_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=30, help="of ImageNet's; 1000 are all")
    parser.add_argument("--backbone", default="RN50-quickgelu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = load_backbone(arguments.backbone, pretrained=None, device=device)
    names = open_clip.IMAGENET_CLASSNAMES[:: 1000 // arguments.classes][: arguments.classes]
    templates = read_dataset("imagenet").templates
    prompts = len(names) * len(templates)
    ways = {"a class at a time, all tokens": encode_one_by_one, "ours": Backbone.encode_classes}
    steps = {name: partial(way, backbone, names, templates) for name, way in ways.items()}
    before, ours = (step() for step in steps.values())
    seconds = time_in_turn(steps, arguments.rounds, warm=True)
    print(f"{arguments.backbone}, {describe_device(device)}, {prompts:,} prompts\n")
    print("| | seconds | prompts/s | speed |")
    print("|---|---:|---:|---:|")
    slow = next(iter(seconds.values()))
    for name, taken in seconds.items():
        print(f"| {name} | {taken:.1f} | {prompts / taken:.0f} | {slow / taken:.1f} |")
    print(f"\nEqual to {((ours - before).norm(dim=1) / before.norm(dim=1)).max():.0e}.")


@torch.inference_mode()
def encode_one_by_one(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str]
) -> torch.Tensor:
    """(K, D), by open_clip's own forward pass for each class."""
    rows = []
    for name in names:
        texts = [template.format(name) for template in templates]
        tokens = backbone.tokenizer(texts).to(backbone.device)
        features = F.normalize(backbone.model.encode_text(tokens), dim=-1)  # type: ignore[operator]
        rows.append(F.normalize(features.mean(dim=0), dim=-1))
    return torch.stack(rows)


if __name__ == "__main__":
    main()

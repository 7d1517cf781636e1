"""Which device a job computes on."""

import logging

import torch

logger = logging.getLogger(__name__)


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    "auto" takes a GPU where there is one and says in the log where there is none.

    Raises:
        RuntimeError: "cuda" where PyTorch sees no GPU.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda":
        raise RuntimeError(
            "The configuration says `device: cuda`, but PyTorch sees no GPU here. "
            "Write `device: auto` to go on with the CPU."
        )
    logger.info("No GPU: computing on the CPU.")
    return torch.device("cpu")

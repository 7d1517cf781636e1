"""Which device a job computes on."""

import logging

import psutil
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


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on a device."""
    if device.type == "cuda":
        # What PyTorch has reserved and does not use is free for it as well.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    return psutil.virtual_memory().available


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which layers compute in bfloat16 on a GPU, and in float32 on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

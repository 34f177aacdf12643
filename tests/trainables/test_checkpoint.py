"""Files of weights: the same content is the same bytes, and what comes back is what went in."""

from pathlib import Path

import torch

from trainables.loop.checkpoint import load_tensors, save_tensors


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {name: torch.arange(6.0).reshape(2, 3) for name in ("b", "a", "c", "d")}
    for number in range(12):
        save_tensors(tmp_path / f"{number}.safetensors", tensors, {"step": 3})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_tensors_and_state_come_back(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"weight": torch.eye(2, dtype=torch.bfloat16)}, {"records": [{"loss": 0.5}]})
    tensors, state = load_tensors(path)
    assert torch.equal(tensors["weight"], torch.eye(2, dtype=torch.bfloat16))
    assert state == {"records": [{"loss": 0.5}]}

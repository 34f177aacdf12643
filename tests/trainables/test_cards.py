"""Which device a name means here, and the one line where the installed PyTorch can't use a card."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made_up_cards import CUDA_12, CUDA_13, GTX_1060, RTX_3060, index_of, plant

from trainables.autoencoder.training import decode_latents, encode_slices
from trainables.autoencoder.vae import Autoencoder
from trainables.errors import CardError, ConfigError
from trainables.loop import cards
from trainables.loop.execution import computing_dtype, summary_of
from trainables.loop.settings import Execution
from trainables.measures import inception
from trainables.measures.inception import InceptionExtractor
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE
from trainables.resources.memory import precision_on

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def refused(device: str = "auto") -> str:
    with pytest.raises(CardError) as caught:
        Execution(device=device).prepare()
    said = str(caught.value)
    assert "\n" not in said
    assert "--device cpu" in said
    return said


def test_auto_is_the_current_card_by_its_index_and_without_a_card_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert Execution().prepare() == CPU
    assert Execution().device_type == "cpu"
    plant(monkeypatch, RTX_3060, RTX_3060, current=1)
    assert Execution().prepare() == Execution(device="cuda").prepare() == torch.device("cuda", 1)
    assert Execution().device_type == "cuda"
    assert Execution(device="cuda:0").prepare() == torch.device("cuda", 0)
    assert Execution(device="cpu").prepare() == CPU


def test_what_is_given_for_a_card_without_an_index_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(ValueError, match="specified index"):
        index_of(torch.device("cuda"))


def test_a_worker_is_capped_in_bytes_whatever_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    capped = plant(monkeypatch, RTX_3060, RTX_3060, current=1, gib=24)
    for limit in (3.0, 6.0, 48.0, None):
        Execution(memory_gib=limit).prepare()
    Execution(device="cuda:0", memory_gib=12.0).prepare()
    assert capped == [(1, 3 / 24), (1, 6 / 24), (1, 1.0), (0, 12 / 24)]


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_driver_that_is_too_old_is_one_line_with_both_versions_and_the_ways_out(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, RTX_3060, driver=12040)
    said = refused(device)
    assert said.startswith(
        "the NVIDIA driver is made for CUDA 12.4, and the installed torch 2.14.1+cu130 for CUDA 13.0"
    )
    assert "update the driver to one for CUDA 13 or newer" in said
    assert "torch==2.14.1+cu126" in said
    with pytest.raises(CardError, match=r"CUDA 12\.4"):
        _ = Execution(device=device).prepare()
    assert Execution(device="cpu").prepare() == CPU
    assert cards.names() == []


def test_a_driver_that_no_build_is_made_for_can_only_be_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, RTX_3060, driver=11080)
    said = refused()
    assert "CUDA 11.8" in said
    assert "cu126" not in said


def test_cuda_that_does_not_start_for_another_reason_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, RTX_3060)

    def fails() -> None:
        raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fails)
    said = refused()
    assert "CUDA unknown error" in said
    assert "nvidia-smi" in said


def test_a_card_without_kernels_is_one_line_with_its_capability_and_the_build_that_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, RTX_3060, GTX_1060)
    assert Execution(device="cuda:0").prepare().index == 0
    said = refused("cuda:1")
    assert "card 1 (NVIDIA GeForce GTX 1060 6GB) is of compute capability 6.1" in said
    assert "torch 2.14.1+cu130 has kernels for 7.5, 8.0, 8.6, 9.0, 10.0, 12.0" in said
    assert "torch==2.14.1+cu126" in said
    plant(monkeypatch, GTX_1060, cuda="12.6", kernels=CUDA_12)
    assert Execution().prepare().index == 0


def test_a_card_newer_or_older_than_all_builds_is_not_sent_to_the_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, ("NVIDIA B400", (13, 0)))
    assert "a newer CUDA" in refused()
    plant(monkeypatch, ("Tesla K40", (3, 5)))
    assert "install" not in refused().split("; ")[1]


@pytest.mark.parametrize(
    ("kernel", "runs", "does_not"),
    [
        ("sm_75", {(7, 5)}, {(7, 0), (6, 1), (8, 0), (8, 6)}),
        ("sm_80", {(8, 0), (8, 6), (8, 9)}, {(7, 5), (9, 0)}),
        ("sm_86", {(8, 6), (8, 9)}, {(8, 0)}),
        ("sm_90a", {(9, 0)}, {(10, 0), (8, 9)}),
        ("sm_120", {(12, 0), (12, 1)}, {(1, 2), (10, 0)}),
        ("compute_80", {(8, 0), (9, 0), (12, 0)}, {(7, 5)}),
        ("gfx1030", set(), {(10, 3)}),
    ],
)
def test_kernels_cover_their_major_version_upwards_and_ptx_all_that_came_later(
    kernel: str, runs: set[tuple[int, int]], does_not: set[tuple[int, int]]
) -> None:
    assert {capability for capability in runs | does_not if cards.covers(kernel, capability)} == runs


def test_a_card_that_only_ptx_reaches_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, ("NVIDIA B400", (13, 0)), kernels=(*CUDA_13, "compute_120"))
    assert Execution().prepare().index == 0


def test_the_memory_of_all_cards_or_the_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, RTX_3060, RTX_3060)
    assert [total for _, total in cards.memory()] == [6 * 2**30] * 2

    def busy(index: int) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nand more")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    with pytest.raises(CardError, match=r"card 0 does not answer \(CUDA error: all .* unavailable\); see"):
        cards.memory()
    plant(monkeypatch, RTX_3060, GTX_1060)
    with pytest.raises(CardError, match="card 1"):
        cards.memory()


@pytest.mark.parametrize("device", ["mps", "mps:0", "xpu", "cuda:", "cuda:one", "gpu", ""])
def test_a_device_that_not_all_stages_work_on_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(ConfigError, match=r"must be auto, cpu, cuda or cuda:N; got") as caught:
        Execution(device=device)
    assert "\n" not in str(caught.value)
    assert ("MPS lacks float64, which sampling needs: take cpu" in str(caught.value)) == device.startswith("mps")


def test_a_card_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert "no CUDA card is there" in refused("cuda")
    assert "no CUDA card is there" in refused("cuda:0")
    plant(monkeypatch, RTX_3060)
    assert "cuda:0 alone is here" in refused("cuda:1")
    plant(monkeypatch, RTX_3060, RTX_3060)
    assert "cuda:0 to cuda:1 are here" in refused("cuda:2")


@pytest.mark.parametrize(
    ("dtype", "capability", "names"),
    [
        (
            torch.bfloat16,
            (8, 6),
            ["NVIDIA GeForce RTX 3050 6GB Laptop GPU", "NVIDIA RTX A2000", "NVIDIA GeForce MX570"],
        ),
        (torch.bfloat16, (9, 0), ["NVIDIA H200"]),
        (
            torch.float16,
            (7, 5),
            [
                *("NVIDIA GeForce RTX 2060", "NVIDIA GeForce RTX 2080 Ti", "Tesla T4", "NVIDIA T4G", "GRID T4-16Q"),
                *("NVIDIA TITAN RTX", "Quadro RTX 4000", "Quadro RTX 3000 with Max-Q Design", "CMP 40HX"),
            ],
        ),
        (torch.float16, (7, 0), ["Tesla V100-SXM2-16GB", "NVIDIA TITAN V"]),
        (
            torch.float32,
            (7, 5),
            [
                *(
                    "NVIDIA GeForce GTX 1660 Ti",
                    "NVIDIA GeForce GTX 1660 SUPER",
                    "GeForce GTX 1650 with Max-Q Design",
                ),
                *("NVIDIA GeForce GTX 1630", "NVIDIA GeForce MX450", "NVIDIA GeForce MX550", "NVIDIA CMP 30HX"),
                *("NVIDIA T400 4GB", "NVIDIA T600 Laptop GPU", "NVIDIA T1000 8GB", "NVIDIA T1200 Laptop GPU"),
                *("NVIDIA T500", "NVIDIA T550 Laptop GPU", "Quadro T1000", "Quadro T2000 with Max-Q Design"),
            ],
        ),
        (torch.float32, (6, 1), ["NVIDIA GeForce GTX 1060 6GB", "NVIDIA GeForce GTX 1080 Ti", "Quadro P2000"]),
        (torch.float32, (5, 2), ["NVIDIA GeForce GTX 980"]),
    ],
    ids=str,
)
def test_auto_takes_the_precision_that_a_card_is_quick_and_right_in(
    dtype: torch.dtype, capability: tuple[int, int], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        plant(monkeypatch, RTX_3060, (name, capability))
        card = torch.device("cuda", 1)
        assert computing_dtype("auto", card) == dtype, name
        assert computing_dtype("fp16", card) == torch.float16, "what is asked for is taken"
        assert computing_dtype("auto", torch.device("cuda", 0)) == torch.bfloat16


def test_a_card_is_planned_for_in_the_precision_that_it_would_train_in(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, ("NVIDIA GeForce GTX 1660 SUPER", (7, 5)))
    assert precision_on("auto", "cuda") == torch.float32
    plant(monkeypatch, RTX_3060, driver=12040)
    assert precision_on("auto", "cuda") == torch.bfloat16, "as for a card that isn't here"


ELSEWHERE = torch.device("meta")
"""A device that a network can be brought to without a card."""


def places(network: torch.nn.Module) -> dict[str, tuple[torch.device, int, bool]]:
    """Where the weights are and lie; no inference tensors are made of them."""
    return {
        name: (tensor.device, tensor.data_ptr(), tensor.is_inference())
        for name, tensor in network.state_dict(keep_vars=True).items()
    }


class TooLarge(torch.nn.Module):
    """A part of a network that no card holds."""

    def _apply(self, *move: object, **options: object) -> TooLarge:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_network_visits_a_device_and_leaves_it_as_it_came() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    before, weight = places(network), network[0].weight
    with cards.on_device(network, ELSEWHERE):
        assert {place[0] for place in places(network).values()} == {ELSEWHERE}
    assert places(network) == before
    assert network[0].weight is weight
    with pytest.raises(ValueError, match="in between"), cards.on_device(network, ELSEWHERE):
        raise ValueError("in between")
    assert places(network) == before
    with pytest.raises(torch.OutOfMemoryError), cards.on_device(torch.nn.Sequential(network, TooLarge()), ELSEWHERE):
        pass
    assert places(network) == before, "also where memory ran out on the way there"
    with cards.on_device(network, CPU):
        assert places(network) == before, "nothing is copied where it is there"


def test_the_autoencoder_leaves_the_device_after_encoding_and_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Autoencoder(SMOKE.vae), []
    before = places(model)

    def encode(self: Autoencoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(next(self.parameters()).device)
        return torch.zeros(len(images), 1), torch.zeros(len(images), 1)

    def decode(self: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        return encode(self, latents)[0]

    monkeypatch.setattr(Autoencoder, "encode", encode)
    monkeypatch.setattr(Autoencoder, "decode", decode)
    encode_slices(model, torch.zeros(3, 16, 16, dtype=torch.uint8), ELSEWHERE)
    assert places(model) == before
    decode_latents(model, torch.zeros(3, 8, 4, 4), ELSEWHERE)
    assert places(model) == before
    assert seen == [ELSEWHERE] * 2


@pytest.fixture
def flags() -> Iterator[None]:
    """Puts PyTorch's flags back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def allowed() -> tuple[bool, bool]:
    """Whether matrix products and convolutions may be computed in TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("flags")
def test_fp32_is_fp32_unless_tf32_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, RTX_3060)
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's own default
    Execution().prepare()
    assert allowed() == (False, False)
    Execution(tf32=True).prepare()
    assert allowed() == (True, True)
    assert torch.backends.cudnn.conv.fp32_precision == "tf32", "by PyTorch's newer name, too"
    Execution().prepare()
    assert allowed() == (False, False)
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"


@pytest.mark.usefixtures("flags")
def test_inception_is_computed_in_fp32_and_leaves_the_flags_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, RTX_3060)
    Execution(tf32=True).prepare()
    extractor, seen = InceptionExtractor(find_weights()), []

    def passed(self: inception._Network, images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return torch.zeros(len(images), 2048)

    monkeypatch.setattr(inception._Network, "__call__", passed)
    extractor.features(np.zeros((1, 16, 16), np.uint8))
    assert seen == [False]
    assert allowed() == (True, True)


def test_what_a_training_was_computed_on_and_in_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary_of(Execution(device="cpu", tf32=True), "bf16", 4) == {
        "device": "cpu",
        "precision": "bf16",
        "tf32": False,
        "cuda_graph": False,
    }
    plant(monkeypatch, ("Tesla T4", (7, 5)))
    assert summary_of(Execution(tf32=True), "auto", 4) == {
        "device": "cuda",
        "precision": "fp16",
        "tf32": True,
        "cuda_graph": False,
    }
    assert summary_of(Execution(cuda_graph=True), "auto", 4)["cuda_graph"]
    assert not summary_of(Execution(cuda_graph=True, micro_batch=2), "auto", 4)["cuda_graph"]

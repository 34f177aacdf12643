"""Samplers against closed forms, early stopping in one pass, and images that do not depend on their batch."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.process import target
from trainables.denoiser.samplers import SAMPLERS, WITHOUT_ETA, Step
from trainables.denoiser.sampling import (
    CHUNK_ON_CPU,
    SamplingTrace,
    even_chunk,
    initial_noise,
    sample,
    sampling_timesteps,
    usual_chunk,
)
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.stopping import STOP_MEASURES
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError
from trainables.loop.execution import in_chunks
from trainables.recipes import SMOKE

SHAPE = (2, 4, 4)
SPREAD = torch.linspace(0.2, 1.0, 32, dtype=torch.float64).view(SHAPE)


class GaussianDenoiser:
    """The optimal denoiser of data N(mean, SPREAD²), which counts the samples and calls it gets."""

    def __init__(self, diffusion: DiffusionConfig, mean: float = 0.0) -> None:
        self.mean = mean
        self.alpha_bar, self.prediction = alphas_cumprod(diffusion), diffusion.prediction
        self.calls = self.rows = 0

    def __call__(self, z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.rows += len(z_t)
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        z = z_t.double()
        gain = alpha_bar.sqrt() * SPREAD**2 / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
        x0 = self.mean + gain * (z - alpha_bar.sqrt() * self.mean)
        noise = (z - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        return target(x0, noise, self.alpha_bar[t], self.prediction).float()


def exact_end(noise: torch.Tensor, diffusion: DiffusionConfig, mean: float) -> torch.Tensor:
    """Where the probability-flow ODE leads: (z_t − √ᾱ·m)/√(ᾱs² + 1 − ᾱ) is constant (Song et al. 2021)."""
    alpha_bar = alphas_cumprod(diffusion)[-1]
    z = noise.double()
    return mean + SPREAD * (z - alpha_bar.sqrt() * mean) / (alpha_bar * SPREAD**2 + 1 - alpha_bar).sqrt()


def draw(
    config: SamplingConfig,
    *,
    seeds: range | list[int] = range(8),
    diffusion: DiffusionConfig | None = None,
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    mean: float = 0.0,
    **options: object,
) -> SamplingTrace:
    diffusion = diffusion or DiffusionConfig()
    return sample(
        denoise or GaussianDenoiser(diffusion, mean),
        initial_noise(list(seeds), SHAPE),
        seeds=list(seeds),
        diffusion=diffusion,
        config=config,
        **options,  # type: ignore[arg-type]
    )


def plain_ddim(noise: torch.Tensor, diffusion: DiffusionConfig, steps: int) -> torch.Tensor:
    """DDIM at η = 0 with nothing that stops, as in Song et al. 2021, eq. 12."""
    denoise, schedule = GaussianDenoiser(diffusion), alphas_cumprod(diffusion)
    timesteps, z = sampling_timesteps(diffusion.timesteps, steps), noise
    for index, t in enumerate(timesteps):
        now = schedule[t]
        output = denoise(z, torch.full((len(z),), t))
        x0 = (z - float((1 - now).sqrt()) * output) / now.sqrt().float()
        if index + 1 == steps:
            break
        then = schedule[timesteps[index + 1]]
        z = float(then.sqrt()) * x0 + float((1 - then).sqrt()) * output
    return x0


NEVER = SamplingConfig(early_stop_threshold=0.0)


def test_timesteps_fall_from_the_noisiest_at_equal_distances() -> None:
    assert sampling_timesteps(1000, 4) == [999, 749, 499, 249]
    assert sampling_timesteps(1000, 1) == [999]
    assert sampling_timesteps(7, 7) == [6, 5, 4, 3, 2, 1, 0]
    for steps in range(1, 51):
        assert np.all(np.diff(sampling_timesteps(50, steps)) < 0)


def test_more_steps_than_timesteps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most diffusion.timesteps \(10\), got 50"):
        draw(NEVER, diffusion=DiffusionConfig(timesteps=10))


def test_weights_of_a_step_beyond_the_training_are_refused() -> None:
    kept = {"diffusion.steps": 100, "sampling.after_steps": 100}
    assert SMOKE.replace(**kept).sampling.after_steps == 100
    with pytest.raises(ConfigError, match=r"at most diffusion.steps \(100\), got 101; set it to 0"):
        SMOKE.replace(**kept | {"sampling.after_steps": 101})


def test_a_seed_for_each_latent_is_asked_for() -> None:
    with pytest.raises(ValueError, match="seed for each of the 2 latents, got 1"):
        sample(
            GaussianDenoiser(DiffusionConfig()),
            initial_noise([1, 2], SHAPE),
            seeds=[1],
            diffusion=DiffusionConfig(),
            config=NEVER,
        )


def test_the_configuration_and_the_dict_name_the_same_rules() -> None:
    fields = SamplingConfig.__dataclass_fields__
    assert set(fields["early_stop_rule"].metadata["choices"]) == set(STOP_MEASURES)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_many_steps_reach_the_end_of_the_ode_for_every_prediction(sampler: str, prediction: str) -> None:
    diffusion = DiffusionConfig(prediction=prediction)
    trace = draw(NEVER.replace(sampler=sampler, steps=500), diffusion=diffusion, mean=0.7)
    expected = exact_end(initial_noise(range(8), SHAPE), diffusion, 0.7)
    torch.testing.assert_close(trace.latents[0].double(), expected, rtol=0, atol=1e-2)


def at_zero_snr(prediction: str = "v", schedule: str = "paper") -> DiffusionConfig:
    return DiffusionConfig(prediction=prediction, schedule=schedule, zero_terminal_snr=True)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["paper", "cosine", "linear"])
@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_so_they_do_from_zero_terminal_snr(sampler: str, prediction: str, schedule: str) -> None:
    diffusion = at_zero_snr(prediction, schedule)
    trace = draw(NEVER.replace(sampler=sampler, steps=500), diffusion=diffusion, mean=0.7, snapshots=(0,))
    noise = initial_noise(range(8), SHAPE)
    # At ᾱ = 0 nothing is known but the mean of the data.
    torch.testing.assert_close(trace.snapshots[0][2], torch.full((1, *SHAPE), 0.7))
    torch.testing.assert_close(trace.latents[0].double(), 0.7 + SPREAD * noise, rtol=0, atol=1e-2)
    torch.testing.assert_close(exact_end(noise, diffusion, 0.7), 0.7 + SPREAD * noise)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_few_steps_from_zero_terminal_snr_are_those_from_a_tiny_snr(
    sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    diffusion = at_zero_snr()
    config = NEVER.replace(sampler=sampler, steps=steps, eta=0.0)
    exact = draw(config, diffusion=diffusion, mean=0.7).latents[0]
    schedule = alphas_cumprod(diffusion)
    schedule[-1] = 1e-300
    monkeypatch.setattr("trainables.denoiser.sampling.alphas_cumprod", lambda diffusion: schedule)
    near = draw(config, diffusion=diffusion, mean=0.7).latents[0]
    # λ = −345 in place of −∞: ratios of some hundred in place of ∞.
    torch.testing.assert_close(exact, near, rtol=0, atol=2e-3)


def test_the_first_step_of_dpm_solver_from_zero_snr_is_ddims_and_the_second_of_order_1() -> None:
    z_t, x0, before = torch.randn((3, 4, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def step(now: float, then: float, previous: tuple[float, torch.Tensor] | None) -> Step:
        noise = (z_t - now**0.5 * x0) / (1 - now) ** 0.5
        return Step(z_t, x0, noise, now, then, previous, 0.0, lambda: torch.zeros_like(z_t))

    for state in (step(0.0, 0.1, None), step(0.1, 0.6, (0.0, before))):
        torch.testing.assert_close(SAMPLERS["dpmpp_2m"](state), SAMPLERS["ddim"](state))
    third = step(0.1, 0.6, (0.01, before))
    assert not torch.allclose(SAMPLERS["dpmpp_2m"](third), SAMPLERS["ddim"](third))


@pytest.mark.parametrize("rule", STOP_MEASURES)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ancestral_steps_and_stop_measures_are_finite_from_zero_terminal_snr(rule: str, eta: float) -> None:
    config = NEVER.replace(steps=100, eta=eta, early_stop_rule=rule)
    trace = draw(config, seeds=range(128), diffusion=at_zero_snr(), mean=0.7)
    assert trace.measures[:, 0 if rule == "noise_norm" else 2 :].isfinite().all()
    standardised = (trace.latents[0] - 0.7) / SPREAD
    assert standardised.mean().item() == pytest.approx(0, abs=0.05)
    assert standardised.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0), ("dpmpp_2m", 0.0)])
def test_samples_have_the_datas_mean_and_spread(sampler: str, eta: float) -> None:
    latents = draw(NEVER.replace(sampler=sampler, steps=100, eta=eta), seeds=range(128), mean=0.7).latents[0]
    standardised = (latents - 0.7) / SPREAD
    assert standardised.mean().item() == pytest.approx(0, abs=0.05)
    assert standardised.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_eta_is_part_of_a_samplings_identity_only_where_the_sampler_has_one(sampler: str) -> None:
    plain, noisy = (NEVER.replace(sampler=sampler, eta=eta) for eta in (0.0, 0.7))
    same = torch.equal(draw(plain.replace(steps=3)).latents, draw(noisy.replace(steps=3)).latents)
    assert same == (plain.identity() == noisy.identity()) == (sampler in WITHOUT_ETA)
    assert plain.identity()["eta"] == 0.0


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_dpm_solver_is_nearer_to_the_ode_than_ddim_at_few_steps(steps: int) -> None:
    expected = exact_end(initial_noise(range(8), SHAPE), DiffusionConfig(), 0.7)
    errors = {
        name: (draw(NEVER.replace(sampler=name, steps=steps), mean=0.7).latents[0] - expected).abs().mean().item()
        for name in SAMPLERS
    }
    assert errors["dpmpp_2m"] < 0.7 * errors["ddim"]


@pytest.mark.parametrize("rule", STOP_MEASURES)
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_threshold_0_is_plain_ddim_bit_for_bit(rule: str, steps: int) -> None:
    trace = draw(NEVER.replace(steps=steps, early_stop_rule=rule), thresholds=(0.5, 0.0, 2.0))
    expected = plain_ddim(initial_noise(range(8), SHAPE), DiffusionConfig(), steps)
    assert torch.equal(trace.latents[1], expected)
    assert trace.steps_used[1].tolist() == [steps] * 8


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rule", STOP_MEASURES)
def test_one_pass_gives_what_a_pass_for_each_threshold_gives(sampler: str, rule: str) -> None:
    config = SamplingConfig(sampler=sampler, steps=20, early_stop_rule=rule)
    thresholds = (0.0, 0.03, 0.1, 0.9, 1.0, 1.05)
    together = draw(config, thresholds=thresholds)
    assert len(together.steps_used.unique()) > 2
    for index, threshold in enumerate(thresholds):
        alone = draw(config.replace(early_stop_threshold=threshold))
        assert alone.thresholds == (threshold,)
        assert torch.equal(alone.latents[0], together.latents[index])
        assert torch.equal(alone.steps_used[0], together.steps_used[index])


@pytest.mark.parametrize("rule", STOP_MEASURES)
def test_steps_never_grow_with_the_threshold(rule: str) -> None:
    trace = draw(SamplingConfig(early_stop_rule=rule), thresholds=(0.0, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.0))
    assert (trace.steps_used.diff(dim=0) <= 0).all()
    assert (trace.steps_used.float().mean(dim=1).diff() < 0).any()


@pytest.mark.parametrize("rule", STOP_MEASURES)
def test_an_infinite_threshold_stops_at_the_first_evaluation_of_snr_above_1(rule: str) -> None:
    denoise, schedule = GaussianDenoiser(DiffusionConfig()), alphas_cumprod(DiffusionConfig())
    trace = draw(SamplingConfig(early_stop_rule=rule), thresholds=(float("inf"),), denoise=denoise)
    first = next(index for index, t in enumerate(sampling_timesteps(1000, 50)) if schedule[t] > 0.5) + 1
    assert trace.steps_used.tolist() == [[first] * 8]
    assert denoise.calls == first
    assert trace.measures[:, first:].isnan().all()


@pytest.mark.parametrize(("rule", "prediction"), [("noise_norm", "epsilon"), ("x0_change", "x0")])
def test_threshold_0_goes_on_even_where_the_measure_is_0(rule: str, prediction: str) -> None:
    diffusion = DiffusionConfig(prediction=prediction)
    constant = torch.zeros_like if prediction == "epsilon" else torch.ones_like
    trace = draw(
        NEVER.replace(steps=5, early_stop_rule=rule), diffusion=diffusion, denoise=lambda z_t, t: constant(z_t)
    )
    assert (trace.measures[:, 1:] == 0).all()
    assert trace.steps_used.tolist() == [[5] * 8]


def test_the_papers_measure_is_the_root_mean_square_of_the_noise() -> None:
    trace = draw(SamplingConfig(steps=1))
    noise_hat = GaussianDenoiser(DiffusionConfig())(initial_noise(range(8), SHAPE), torch.full((8,), 999))
    torch.testing.assert_close(trace.measures[:, 0], noise_hat.square().mean(dim=(1, 2, 3)).sqrt())


def test_a_stopped_sample_returns_the_estimate_of_that_evaluation() -> None:
    free = draw(NEVER.replace(early_stop_rule="x0_change"), snapshots=range(50))
    threshold = 0.02
    trace = draw(NEVER.replace(early_stop_rule="x0_change"), thresholds=(threshold,))
    used = trace.steps_used[0, 0].item()
    assert 2 <= used < 50
    assert torch.equal(trace.latents[0, :1], free.snapshots[used - 1][2])
    assert (free.measures[0, 1 : used - 1] >= threshold).all()
    assert free.measures[0, used - 1] < threshold
    assert trace.measures[0, used:].isnan().all()


def test_snapshots_hold_the_first_sample_at_the_evaluations_asked_for() -> None:
    trace = draw(NEVER.replace(steps=4), snapshots=(0, 3))
    assert [t for t, _, _ in trace.snapshots] == [999, 249]
    assert torch.equal(trace.snapshots[0][1], initial_noise([0], SHAPE))
    assert torch.equal(trace.snapshots[1][2], trace.latents[0, :1])


def test_the_pass_ends_and_samples_leave_when_every_threshold_has_fired() -> None:
    denoise = GaussianDenoiser(DiffusionConfig())
    count = 3 * CHUNK_ON_CPU
    trace = draw(
        SamplingConfig(early_stop_rule="x0_change"), seeds=range(count), thresholds=(0.05, 0.03), denoise=denoise
    )
    last = trace.steps_used.max(dim=0).values
    assert last.min() < last.max() < 50
    chunks = [-(-int((last > evaluation).sum()) // CHUNK_ON_CPU) for evaluation in range(int(last.max()))]
    assert denoise.calls == sum(chunks)
    assert denoise.calls < 3 * last.max()


def test_ten_thresholds_take_no_more_evaluations_than_their_lowest() -> None:
    config = SamplingConfig(early_stop_rule="x0_change")
    counts = []
    for thresholds in ((0.02,), tuple(0.02 * k for k in range(1, 11))):
        denoise = GaussianDenoiser(DiffusionConfig())
        draw(config, thresholds=thresholds, denoise=denoise)
        counts.append(denoise.rows)
    assert counts[0] == counts[1]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread, so that processor time has no waiting of others in it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_ten_thresholds_cost_less_than_one_and_a_half_times_one() -> None:
    model = random_unet()
    config = SamplingConfig(steps=10, early_stop_rule="x0_change")

    def seconds(thresholds: tuple[float, ...]) -> float:
        start = time.process_time()
        draw(config, thresholds=thresholds, denoise=model, seeds=range(16))
        return time.process_time() - start

    turns = [(seconds((0.0,)), seconds(tuple(0.1 * k for k in range(10)))) for _ in range(6)]
    single, grid = (min(times) for times in zip(*turns, strict=True))
    assert grid < 1.5 * single


def random_unet() -> UNet:
    """A small UNet with no zero weights left."""
    torch.manual_seed(0)
    config = DiffusionConfig(widths=(32, 64), blocks=1, embedding_channels=64)
    model = UNet(SHAPE[0], config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("dpmpp_2m", 0.0)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_of_a_seed_is_the_same_bits_in_any_batch(sampler: str, eta: float, precision: str) -> None:
    model = random_unet()
    config = SamplingConfig(sampler=sampler, eta=eta, steps=6, early_stop_rule="x0_change", precision=precision)

    def latents(seeds: list[int], threshold: float) -> dict[int, torch.Tensor]:
        trace = draw(config, seeds=seeds, denoise=model, thresholds=(threshold,))
        return dict(zip(seeds, trace.latents[0], strict=True))

    # A threshold that some samples of the batch reach and others do not, so that some leave early.
    measures = draw(config, seeds=range(20), denoise=model, thresholds=(0.0,)).measures
    for threshold in (0.0, measures[:, 4].median().item()):
        reference = latents(list(range(20)), threshold)
        for seeds in ([7], [7, 3], [3, 19, 7], list(range(19, -1, -1)), list(range(4, 20))):
            for seed, latent in latents(seeds, threshold).items():
                assert torch.equal(latent, reference[seed]), (seeds, seed)
    assert not torch.equal(reference[3], reference[7])


def test_initial_noise_is_standard_normal_and_of_its_seed() -> None:
    noise = initial_noise(range(200), SHAPE)
    assert torch.equal(noise[5:6], initial_noise([5], SHAPE))
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_step_noise_differs_from_the_initial_noise_of_its_seed() -> None:
    seen: list[torch.Tensor] = []

    def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(z_t[0])
        return torch.zeros_like(z_t)

    draw(NEVER.replace(steps=2, eta=1.0), seeds=[4], denoise=denoise)
    schedule = alphas_cumprod(DiffusionConfig())
    now, then = schedule[999], schedule[499]
    added = seen[1] - seen[0] * (then / now).sqrt()
    initial = initial_noise([4], SHAPE)[0]
    assert abs(torch.corrcoef(torch.stack([added.flatten(), initial.flatten()]))[0, 1]) < 0.5
    sigma = ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
    assert (added / sigma).std().item() == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_chunks_are_always_full_and_give_every_row_once(rows: int) -> None:
    sizes = []

    def double(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return 2 * x + y

    x = torch.arange(rows).float()[:, None]
    assert torch.equal(in_chunks(double, 4, x, x), 3 * x)
    assert sizes == [4] * (-(-rows // 4))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (8, 8), (32, 32), (33, 17), (50, 25), (64, 32), (200, 29)])
def test_equal_calls_are_hardly_padded(count: int, size: int) -> None:
    assert even_chunk(count, torch.device("cpu")) == size
    calls = -(-count // size)
    assert calls == -(-count // CHUNK_ON_CPU)
    assert calls * size - count < calls


@pytest.mark.parametrize(("count", "on_a_card"), [(64, 64), (200, 50), (65, 33), (3, 3)])
def test_a_pass_takes_even_calls_on_a_card_and_always_the_same_on_the_cpu(count: int, on_a_card: int) -> None:
    assert usual_chunk(count, torch.device("cuda")) == on_a_card
    assert usual_chunk(count, torch.device("cpu")) == CHUNK_ON_CPU


def test_a_network_computes_in_the_precision_asked_for_and_keeps_its_weights() -> None:
    model, seen = random_unet(), []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for precision in ("fp32", "bf16"):
        trace = draw(SamplingConfig(steps=2, precision=precision), seeds=range(3), denoise=model)
        assert trace.latents.dtype == torch.float32
        seen.append(trace.latents)
    assert not torch.equal(*seen)
    torch.testing.assert_close(*seen, rtol=0.1, atol=0.1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

"""Arms are what their names say, contrasts sum to zero, and what can share through the store does."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_dataset import plant

from latentsweep.ablation.design.components import COMPONENTS, DEFAULT, chosen
from latentsweep.ablation.design.contrasts import Design, design_of
from latentsweep.ablation.design.plan import TUNING_SEED, AblationPlan, needed, sharing
from latentsweep.api.studies import size
from latentsweep.stages.keys import keys_of
from latentsweep.storage.home import Home
from trainables.errors import ConfigError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import IMPROVED, PAPER, SMOKE


def plan(components: tuple[str, ...], kind: str = "leave-one-out") -> AblationPlan:
    return AblationPlan("demo", "f" * 16, "smoke", SMOKE, kind, components, 0, "test", "w" * 64)


def arms(design: Design) -> dict[str, dict[str, object]]:
    return {arm.name: dict(arm.changes) for arm in design.arms}


@pytest.mark.parametrize("recipe", [PAPER, IMPROVED, SMOKE])
@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_makes_a_difference_that_every_recipe_takes(recipe: object, name: str) -> None:
    for kind in ("leave-one-out", "one-at-a-time"):
        reference, arm = design_of(recipe, chosen([name]), kind).arms  # type: ignore[arg-type]
        assert reference.changes == {}
        assert set(arm.changes) <= set(COMPONENTS[name].on) | set(COMPONENTS[name].off)
        assert arm.changes


@pytest.mark.parametrize("field", ["vae.patch_size", "diffusion.patch_size"])
def test_the_arm_whose_networks_work_on_more_positions_is_the_one_to_plan_memory_for(field: str) -> None:
    patched = IMPROVED.replace(**{field: 2})
    assert max([patched, IMPROVED], key=size) is IMPROVED


def test_leave_one_out_takes_each_component_out_of_the_full_recipe() -> None:
    design = design_of(SMOKE, chosen(["channels", "cutmix", "early-stop"]), "leave-one-out")
    assert arms(design) == {
        "full": {},
        "without channels": {"vae.latent_channels": 4},
        "without cutmix": {"diffusion.cutmix_probability": 0.0},
        "without early-stop": {"sampling.early_stop_threshold": 0.0},
    }
    assert [dict(contrast.weights) for contrast in design.contrasts] == [
        {name: 1.0, "full": -1.0} for name in ("without channels", "without cutmix", "without early-stop")
    ]


def test_one_at_a_time_puts_each_component_into_the_bare_recipe() -> None:
    design = design_of(SMOKE, chosen(["whitening", "ema"]), "one-at-a-time")
    assert [arm.name for arm in design.arms] == ["bare", "with whitening", "with ema"]
    bare = design.reference.recipe.diffusion
    assert not bare.whiten
    assert bare.ema_decay == 0.0
    assert arms(design)["with whitening"] == {"diffusion.whiten": True}


def test_a_factorial_has_all_combinations_and_recovers_planted_effects() -> None:
    design = design_of(SMOKE, chosen(["cutmix", "whitening", "min-snr"]), "factorial")
    assert len(design.arms) == 8
    assert design.arms[0].name == "cutmix + whitening + min-snr"
    assert design.arms[-1].name == "none"
    value = {arm.name: 5 + 3 * ("cutmix" in arm.name) - ("whitening" in arm.name) for arm in design.arms}
    for name in value:
        value[name] += 4 * ("cutmix" in name and "whitening" in name)
    found = {c.name: sum(w * value[arm] for arm, w in c.weights.items()) for c in design.contrasts}
    assert found == pytest.approx(
        {"cutmix": 5, "whitening": 1, "min-snr": 0, "cutmix × whitening": 2, "cutmix × min-snr": 0}
        | {"whitening × min-snr": 0}
    )
    assert all(sum(contrast.weights.values()) == pytest.approx(0) for contrast in design.contrasts)


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["cutmixx"], "leave-one-out", "no component 'cutmixx'; known: channels"),
        (["cutmix", "cutmix"], "leave-one-out", "different names"),
        ([], "leave-one-out", "one or more"),
        (["frequency-focal", "frequency-high-pass"], "leave-one-out", "both set diffusion.frequency_weight"),
        (["cutmix"], "factorial", "two components or more"),
        (["cutmix"], "latin-square", "--design must be one of"),
    ],
)
def test_a_design_that_cannot_be_is_one_line(names: list[str], kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        design_of(SMOKE, chosen(names), kind)


@pytest.mark.parametrize(
    ("name", "changed", "shares"),
    [
        ("l1", {"vae.reconstruction_loss": "mse"}, "its own autoencoder and denoiser"),
        ("charbonnier", {"vae.reconstruction_loss": "mse"}, "its own autoencoder and denoiser"),
        ("ms-ssim", {"vae.ms_ssim_weight": 0.0}, "its own autoencoder and denoiser"),
        ("gradient", {"vae.gradient_weight": 0.0}, "its own autoencoder and denoiser"),
        ("discriminator", {"vae.adversarial_weight": 0.0}, "its own autoencoder and denoiser"),
        ("latent-noise", {"vae.latent_noise": 0.0}, "its own autoencoder and denoiser"),
        ("equivariance", {"vae.equivariance_weight": 0.0}, "its own autoencoder and denoiser"),
        ("weighted-frequency", {"diffusion.frequency_weighting": "none"}, "its own denoiser"),
        ("lp-loss", {"diffusion.loss_power": 2.0}, "its own denoiser"),
        ("zero-snr", {"diffusion.zero_terminal_snr": False}, "its own denoiser"),
        ("stratified", {"diffusion.timestep_sampling": "uniform"}, "its own denoiser"),
        ("logit-normal", {"diffusion.timestep_sampling": "uniform"}, "its own denoiser"),
        ("log-normal", {"diffusion.timestep_sampling": "uniform"}, "its own denoiser"),
        ("noise-label", {"diffusion.noise_label": "timestep"}, "its own denoiser"),
        ("position", {"diffusion.position_condition": False}, "its own denoiser"),
        ("guidance", {"sampling.guidance": 1.0}, "trains nothing: it shares the reference's denoiser"),
        ("self-conditioning", {"diffusion.self_conditioning": 0.0}, "its own denoiser"),
        (
            "guidance-interval",
            {"sampling.guidance_low": 0.0, "sampling.guidance_high": 0.0},
            "trains nothing: it shares the reference's denoiser",
        ),
        ("autoguidance", {"sampling.autoguidance": 1.0}, "trains nothing: it shares the reference's denoiser"),
        ("latent-augmentation", {"diffusion.augmentation_probability": 0.0}, "its own denoiser"),
        (
            "altered-copies",
            {"diffusion.augmented_copies": 0, "diffusion.augmentation_probability": 0.0},
            "its own denoiser",
        ),
        ("cutmix-label", {"diffusion.cutmix_labelled": False}, "its own denoiser"),
        ("mirror-images", {"diffusion.flip_probability": 0.0}, "its own denoiser"),
        ("novelty", {"diffusion.novelty_weighting": 0.0}, "its own denoiser"),
        ("power-ema", {"sampling.ema_length": 0.0}, "trains nothing: it shares the reference's denoiser"),
    ],
)
def test_a_choice_of_training_or_sampling_differs_in_that_alone(
    name: str, changed: dict[str, object], shares: str
) -> None:
    made = plan((name,))
    assert arms(made.design)[f"without {name}"] == changed
    assert sharing(made.design, made.jobs([0]))[f"without {name}"] == shares


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (["l1", "charbonnier"], "vae.reconstruction_loss"),
        (["stratified", "logit-normal"], "diffusion.timestep_sampling"),
        (["zero-snr", "v-prediction"], "diffusion.prediction"),
        (["position", "guidance"], "diffusion.position_condition"),
        (["cutmix", "cutmix-label"], "diffusion.cutmix_probability"),
        (["guidance", "guidance-interval"], "diffusion.position_condition"),
    ],
)
def test_components_that_set_the_same_field_are_refused_together(names: list[str], field: str) -> None:
    with pytest.raises(ConfigError, match=f"both set {field}"):
        chosen(names)


def test_arms_share_what_they_have_in_common() -> None:
    made = plan(("channels", "cutmix", "early-stop", "whitening"))
    jobs = made.jobs(range(3))
    assert len(jobs) == 15
    counts = needed(jobs)
    assert (counts["vae"], counts["denoiser"]) == (6, 12), "the early stop trains nothing"
    assert counts["samples"] == 12, "nor does it sample anew"
    words = sharing(made.design, jobs)
    assert words["without early-stop"] == "trains nothing: it shares the reference's denoiser and samples"
    assert words["without channels"] == "its own autoencoder and denoiser"
    assert words["without cutmix"] == "its own denoiser"


def test_more_seeds_are_the_same_study_and_another_component_is_another() -> None:
    assert plan(DEFAULT).name == plan(DEFAULT).name != plan(DEFAULT[:-1]).name
    few, more = (plan(DEFAULT).jobs(range(count)) for count in (5, 8))
    assert [job.keys.evaluation.name for job in more[: len(few)]] == [job.keys.evaluation.name for job in few]


def test_arms_of_one_seed_have_the_same_noise_and_another_seed_has_another() -> None:
    jobs = plan(("cutmix",)).jobs(range(2))
    inputs = [dict(job.keys.samples.inputs) for job in jobs]
    assert inputs[0]["seed"] == inputs[1]["seed"] != inputs[2]["seed"]


def test_no_run_of_a_study_has_the_seed_that_its_arms_are_tuned_with(tmp_path: Path) -> None:
    study, dataset = plan(("cutmix",)), plant(Home(tmp_path / "runs"))
    tuning = study.tuning(study.design.reference, dataset, InceptionWeights(Path("none"), "w" * 64))
    assert tuning.seed == TUNING_SEED
    runs = study.jobs(range(200))
    own = {tuning.keys_of(run.recipe).denoiser.name for run in runs}
    assert not own & {keys_of(run.recipe, tuning.fingerprint, run.seed, "w" * 64).denoiser.name for run in runs}

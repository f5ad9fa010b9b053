"""Training of base networks under the noise that they will be smoothed with."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from rs_plugin import __version__
from rs_plugin.datasets import Dataset, load_dataset
from rs_plugin.datasets.augmentation import Augmentation, augmentations
from rs_plugin.distributions import SmoothingDistribution, parse_noise
from rs_plugin.errors import ModelError, ParameterError
from rs_plugin.networks import build_network
from rs_plugin.training.adversary import noisy_batch
from rs_plugin.training.checkpoint import Checkpoint
from rs_plugin.training.recipe import TrainConfig, command_line, default_name
from rs_plugin.zoo import ModelCard, load_saved, weights_bytes
from rs_plugin.zoo.card import check_name
from rs_plugin.zoo.models import card_path

#: Draws an image behind a card's accuracy under noise, and the seed of their generator.
EVALUATION_DRAWS: Final = 20
EVALUATION_SEED: Final = 0

#: Images that one forward pass of an evaluation takes.
_EVALUATION_BATCH: Final = 512

#: Epochs whose loss is logged and kept on the card, about.
_TOLD: Final = 12


@dataclass(frozen=True)
class TrainResult:
    """A trained network, in eval mode, and its card."""

    model: nn.Module
    card: ModelCard


def train(
    config: TrainConfig,
    *,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 10.0,
) -> TrainResult:
    """Train a network as ``config`` says and measure it on the held-out images.

    No global random state is changed. The result does not depend on interruptions.

    Args:
        config: the recipe.
        name: name on the card, ``default_name(config)`` if None.
        progress: called with (epochs done, epochs in all) after every epoch, and once at the start.
        log: called with a line of text about twelve times, evenly spread over the epochs.
        checkpoint: file for the state of the training. If it exists, training goes on from there.
        checkpoint_seconds: shortest time between two writes of it; the last epoch, and that before an interruption
            from the keyboard, is always written.

    Raises:
        ParameterError: a setting does not fit, the checkpoint belongs to another recipe, or there is no GPU.
        UnknownNameError: no data set, architecture, noise or augmentation has the given name.
        ModelError: the loss is not finite, or the network does not fit the images.
    """
    noise = parse_noise(config.noise)
    name = default_name(config) if name is None else check_name(name)
    held_out, training = load_dataset(config.dataset), load_dataset(f"{config.dataset}_train")
    noise.check_dim(training.dim)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ParameterError("device = 'cuda', and torch finds no GPU here; use 'cpu'")
    path = None if checkpoint is None else Path(checkpoint)
    model, losses = _fit(config, training, noise, progress, log, path, checkpoint_seconds)
    clean = accuracy(model, held_out)
    noisy = accuracy(model, held_out, noise, draws=EVALUATION_DRAWS, seed=EVALUATION_SEED)
    return TrainResult(model.cpu(), _card(config, name, model.cpu(), training, losses, clean, noisy))


def accuracy(
    model: nn.Module, dataset: Dataset, noise: SmoothingDistribution | None = None, *, draws: int = 1, seed: int = 0
) -> float:
    """Return the share of images that ``model`` itself, unsmoothed, classifies rightly; it is put in eval mode.

    Args:
        model: the network, on the device where it is to run and the noise is drawn.
        dataset: the images.
        noise: added to every image if given.
        draws: number of draws an image, with noise.
        seed: seed of the noise.
    """
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    whole, labels = dataset.images.to(device), dataset.labels.to(device)
    passes = draws if noise is not None else 1
    model.eval()
    right = 0
    with torch.inference_mode():
        for _ in range(passes):
            images = whole
            if noise is not None:
                images = whole + noise.sample(images.shape, generator=generator, dtype=images.dtype)
            predicted = torch.cat([model(block).argmax(1) for block in torch.split(images, _EVALUATION_BATCH)])
            right += int((predicted == labels).sum())
    return right / (len(dataset) * passes)


def _fit(
    config: TrainConfig,
    training: Dataset,
    noise: SmoothingDistribution,
    progress: Callable[[int, int], None] | None,
    log: Callable[[str], None] | None,
    checkpoint: Path | None,
    checkpoint_seconds: float,
) -> tuple[nn.Module, list[tuple[int, float]]]:
    """Return the trained network, and the mean loss of some epochs, evenly spread, with their numbers."""
    augment = augmentations.get(config.augmentation)
    device = torch.device(config.device)
    generator = torch.Generator(device).manual_seed(config.seed)
    # Initialisation, and layers such as dropout, draw from torch's global generator: it is lent to them, seeded.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _seed_global(generator)
        model = build_network(config.architecture, training.num_classes)
        _check_fit(model, config, training)
        if config.start:
            model.load_state_dict(_start_of(config, training).state_dict())
        model.train()
        model = model.to(device).to(memory_format=_layout(config))
        images, labels = training.images.to(device), training.labels.to(device)
        optimizer = _optimizer(config, model)
        steps = config.epochs * math.ceil(len(training) / config.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=steps)
        state = Checkpoint(checkpoint, config, training, model, optimizer, schedule, generator)
        done, losses = state.restore()
        if device.type == "cuda" and not config.adversary and len(images) % config.batch_size == 0:
            _replay(model, images[: config.batch_size], config)
        written = time.monotonic()
        if progress is not None:
            progress(done, config.epochs)
        try:
            for epoch in range(done + 1, config.epochs + 1):
                total = _pass(model, images, labels, augment, noise, config, generator, optimizer, schedule)
                if not math.isfinite(total):
                    raise ModelError(f"the loss is {total} after epoch {epoch}; choose a smaller lr than {config.lr}")
                told = epoch == config.epochs or epoch % max(1, config.epochs // _TOLD) == 0
                if told:
                    losses.append((epoch, round(total / len(training), 4)))
                state.keep(epoch, losses)
                if epoch == config.epochs or time.monotonic() - written >= checkpoint_seconds:
                    state.write()
                    written = time.monotonic()
                if progress is not None:
                    progress(epoch, config.epochs)
                if log is not None and told:
                    log(f"epoch {epoch} of {config.epochs}: loss {losses[-1][1]:.4f}")
        except KeyboardInterrupt:
            state.write()
            raise
    vars(model).pop("forward", None)  # of ``_replay``
    model = model.to(memory_format=torch.contiguous_format)
    if config.precision == "bfloat16":
        _round_to_half(model)
    return model.eval(), losses


def _pass(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    augment: Augmentation,
    noise: SmoothingDistribution,
    config: TrainConfig,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Train on every image once, and return the sum of the losses."""
    _seed_global(generator)
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    order = torch.randperm(len(images), generator=generator, device=images.device)
    for batch in torch.split(order, config.batch_size):
        shown = augment(images[batch], generator).contiguous(memory_format=_layout(config))
        with _computing(config):
            shown, wanted = noisy_batch(model, shown, labels[batch], noise, config, generator)
            scores = model(shown)
        loss = nn.functional.cross_entropy(scores.float(), wanted)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        total += loss.detach().double() * len(batch)
    return float(total)


def _computing(config: TrainConfig, *, cached: bool = True) -> torch.autocast:
    enabled = config.precision == "bfloat16"
    return torch.autocast(config.device, torch.bfloat16, enabled=enabled, cache_enabled=cached)


def _replay(model: nn.Module, images: Tensor, config: TrainConfig) -> None:
    """Make the network replay one graph of a GPU's kernels for batches of this size; launching them takes longer."""
    before = [value.clone() for value in model.buffers()]
    with _computing(config, cached=False):
        torch.cuda.make_graphed_callables(model, (images.contiguous(memory_format=_layout(config)),))
    for value, old in zip(model.buffers(), before, strict=True):
        value.copy_(old)  # statistics of what the graph was made with


def _layout(config: TrainConfig) -> torch.memory_format:
    return torch.channels_last if config.precision == "bfloat16" else torch.contiguous_format


def _start_of(config: TrainConfig, training: Dataset) -> nn.Module:
    model, card = load_saved(card_path(config.start))
    if card.architecture != config.architecture:
        raise ModelError(
            f"start = {config.start!r} is a {card.architecture}, not a {config.architecture}; give that architecture"
        )
    if card.num_classes != training.num_classes:
        raise ModelError(
            f"start = {config.start!r} has {card.num_classes} classes, {config.dataset!r} {training.num_classes}; "
            f"begin with a model of as many"
        )
    return model


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay,
        fused=config.device == "cuda",
    )  # fmt: skip


def _round_to_half(model: nn.Module) -> None:
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())


def _check_fit(model: nn.Module, config: TrainConfig, training: Dataset) -> None:
    expected = (1, training.num_classes)
    try:
        with torch.inference_mode():
            found = tuple(model.eval()(training.images[:1]).shape)
    except RuntimeError as error:
        found, why = (), f": {error}"
    else:
        why = f": it answers with shape {found}, not {expected}"
    if found != expected:
        shape = training.image_shape
        raise ModelError(f"architecture {config.architecture!r} does not fit images of shape {shape}{why}")


def _seed_global(generator: torch.Generator) -> None:
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    torch.default_generator.manual_seed(seed)
    if generator.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _card(
    config: TrainConfig,
    name: str,
    model: nn.Module,
    training: Dataset,
    losses: list[tuple[int, float]],
    clean: float,
    noisy: float,
) -> ModelCard:
    return ModelCard(
        name=name,
        architecture=config.architecture,
        num_classes=training.num_classes,
        dataset=config.dataset,
        noise=str(parse_noise(config.noise)),
        recipe=dataclasses.asdict(config),
        seed=config.seed,
        command=command_line(config, name),
        losses={str(epoch): loss for epoch, loss in losses},
        accuracy_clean=clean,
        accuracy_noise=noisy,
        noise_draws=EVALUATION_DRAWS,
        parameters=sum(value.numel() for value in model.parameters()),
        sha256=hashlib.sha256(weights_bytes(model)).hexdigest(),
        package_version=__version__,
        torch_version=str(torch.__version__),
        licence="MIT",
        data_source=f"{training.source} ({training.licence})" if training.source else training.name,
    )

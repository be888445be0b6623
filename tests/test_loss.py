"""The loss in parts is the loss: values, gradients, trainings; and never all logits at a time."""

import pytest
import torch
from support.models import initialised
from support.runs import small_config

from paper_repro import config as configuration
from paper_repro.config import Execution, logits_parts
from paper_repro.model import GPT, losses
from paper_repro.training import train

VOCABULARY = 50
TOKENS = torch.randint(VOCABULARY, (3, 16), generator=torch.Generator().manual_seed(0))


def gradients(model: GPT, loss: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
    """Those of a sum over runs in which both losses have a weight."""
    model.zero_grad()
    (loss[0].sum() + 0.3 * loss[1].sum()).backward()
    return [parameter.grad for parameter in model.parameters()]


def stacked(runs: int) -> GPT:
    """A model of some runs, all weights different."""
    config = small_config()
    model = GPT(config.model, VOCABULARY, 16, runs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.logits_multiplier.copy_(torch.tensor([0.5, 1.0, 2.0])[:runs])
    return model


@pytest.fixture
def in_parts(monkeypatch):
    """Seven tokens' logits at a time: 45 tokens in 7 parts of 6 or 7."""

    def set_bytes(tokens: int = 7) -> None:
        monkeypatch.setattr(configuration, "LOGITS_BYTES", 4 * VOCABULARY * tokens)

    return set_bytes


@pytest.mark.parametrize("recompute", [False, True])
def test_values_and_gradients_are_those_of_all_logits(recompute, in_parts):
    model = initialised(small_config()).double()
    model.recompute = recompute
    whole = model.loss(TOKENS)
    expected = gradients(model, whole)
    in_parts()
    assert logits_parts(45, VOCABULARY) == 7
    found = model.loss(TOKENS)
    for each, of_whole in zip(found, whole, strict=True):
        torch.testing.assert_close(each, of_whole, rtol=1e-13, atol=0)
    for each, of_whole in zip(gradients(model, found), expected, strict=True):
        torch.testing.assert_close(each, of_whole, rtol=1e-10, atol=1e-14)


def test_runs_at_once_have_each_their_own_loss(in_parts):
    model = stacked(3).double()
    sequences = torch.stack([TOKENS, TOKENS.flip(0), TOKENS.roll(1, 1)])
    whole = model.loss(sequences)
    expected = gradients(model, whole)
    in_parts(20)
    found = model.loss(sequences)
    assert found[0].shape == found[1].shape == (3,)
    for each, of_whole in zip(found, whole, strict=True):
        torch.testing.assert_close(each, of_whole, rtol=1e-13, atol=0)
    for each, of_whole in zip(gradients(model, found), expected, strict=True):
        torch.testing.assert_close(each, of_whole, rtol=1e-10, atol=1e-14)


def test_where_logits_are_few_the_bits_are_those_of_a_model_that_gives_logits():
    model = initialised(small_config())
    ours, plain = model.loss(TOKENS), losses(model, TOKENS)
    assert [x.item() for x in ours] == [x.item() for x in plain]
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            gradients(model, model.loss(TOKENS)),
            [x.clone() for x in gradients(model, losses(model, TOKENS))],
            strict=True,
        )
    )


def test_no_more_logits_than_allowed_are_there_at_a_time(in_parts, monkeypatch):
    """In the forward and in the backward pass; what is kept for the latter has no logits at all."""
    model, sizes, kept = initialised(small_config()), [], []
    logits = model.logits

    def watched(x: torch.Tensor) -> torch.Tensor:
        found = logits(x)
        sizes.append(found.numel() // VOCABULARY)
        return found

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    monkeypatch.setattr(model, "logits", watched)
    in_parts()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(TOKENS)
    assert len(sizes) == 7
    assert VOCABULARY not in [shape[-1] for shape in kept if shape]
    gradients(model, loss)
    assert len(sizes) == 14
    assert sum(sizes) == 2 * 45
    assert max(sizes) <= 7


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_ends_alike(dtype, in_parts):
    config = small_config(train={"clip": 1.0})
    execution = Execution(dtype=dtype)
    whole = train(config, execution).val_loss
    in_parts()
    rounding = {"float32": 1e-5, "bfloat16": 2e-3}[dtype]
    assert train(config, execution).val_loss == pytest.approx(whole, rel=rounding)

"""Batches are a pure function of (seed, step), and an epoch is every window once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_repro.data import Dataset
from paper_repro.errors import ConfigError


def counting_dataset(tokens: int, context: int, validation_tokens: int = 200) -> Dataset:
    """Every token is its own position, so that a sequence tells where it was cut."""
    return Dataset(
        train=np.arange(tokens, dtype=np.uint16),
        validation=np.arange(validation_tokens, dtype=np.uint16),
        vocab_size=2**16,
        corpus="counting",
        tokenizer="bytes",
        corpus_hash="",
        context=context,
        unigram_entropy=0.0,
        bigram_entropy=0.0,
    )


def starts(dataset: Dataset, seed: int, steps: int, batch_size: int) -> list[int]:
    batches = [dataset.training_batch(seed, step, batch_size) for step in range(steps)]
    return torch.cat(batches)[:, 0].tolist()


def test_batch_is_windows_of_consecutive_tokens():
    batch = counting_dataset(tokens=101, context=10).training_batch(seed=3, step=0, batch_size=4)
    assert batch.dtype == torch.int64
    assert batch.shape == (4, 11)
    assert (batch[:, 1:] == batch[:, :-1] + 1).all()
    assert (batch[:, 0] % 10 == 0).all()


@settings(deadline=None)
@given(
    tokens=st.integers(11, 400),
    context=st.integers(1, 10),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_an_epoch_is_every_window_exactly_once(tokens, context, epochs, seed):
    dataset = counting_dataset(tokens, context)
    windows = (tokens - 1) // context
    seen = starts(dataset, seed, steps=windows * epochs, batch_size=1)
    every_window = list(range(0, windows * context, context))
    for epoch in range(epochs):
        assert sorted(seen[epoch * windows : (epoch + 1) * windows]) == every_window


def test_every_token_but_the_first_is_a_target_once_an_epoch():
    targets = counting_dataset(tokens=41, context=8).training_batch(0, 0, 5)[:, 1:]
    assert sorted(targets.flatten().tolist()) == list(range(1, 41))


@settings(deadline=None)
@given(batch_size=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_order_does_not_depend_on_batch_size(batch_size, seed):
    dataset = counting_dataset(tokens=101, context=10)  # 10 windows: batches span epochs
    one_by_one = starts(dataset, seed, steps=50, batch_size=1)
    steps = 50 // batch_size
    assert starts(dataset, seed, steps, batch_size) == one_by_one[: steps * batch_size]


def test_batches_do_not_depend_on_what_was_asked_before():
    dataset = counting_dataset(tokens=1001, context=10)
    forward = [dataset.training_batch(1, step, 8) for step in range(30)]
    fresh = counting_dataset(tokens=1001, context=10)
    fresh.training_batch(2, 17, 8)
    for step in reversed(range(30)):
        assert torch.equal(fresh.training_batch(1, step, 8), forward[step])


def test_seeds_and_epochs_have_orders_of_their_own():
    dataset = counting_dataset(tokens=1001, context=10)
    orders = {
        tuple(starts(dataset, seed, steps=200, batch_size=1)[epoch * 100 : (epoch + 1) * 100])
        for seed in (0, 1, 2)
        for epoch in (0, 1)
    }
    assert len(orders) == 6


def test_order_is_the_same_on_every_machine():
    """A golden order: it changes when numpy's or our shuffling does, and then old runs cannot be
    resumed or paired with new ones."""
    dataset = counting_dataset(tokens=101, context=10)
    assert starts(dataset, seed=0, steps=10, batch_size=1) == GOLDEN_ORDER


GOLDEN_ORDER = [40, 60, 20, 70, 30, 50, 90, 0, 80, 10]


def test_validation_batches_are_fixed_and_spread_over_the_tokens():
    dataset = counting_dataset(tokens=101, context=10, validation_tokens=1001)
    batches = list(dataset.validation_batches(sequences=10, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.cat(batches)[:, 0].tolist() == list(range(0, 1000, 100))
    again = list(dataset.validation_batches(sequences=10, batch_size=10))
    assert torch.equal(torch.cat(again), torch.cat(batches))


@pytest.mark.parametrize("windows", [30, 34, 39])
def test_validation_sets_are_disjoint_and_no_more_than_there_are(windows):
    dataset = counting_dataset(tokens=101, context=10, validation_tokens=10 * windows + 1)
    sets = [torch.cat(list(dataset.validation_batches(10, 4, k)))[:, 0].tolist() for k in range(3)]
    assert sets[0] == torch.cat(list(dataset.validation_batches(10, 4)))[:, 0].tolist()
    starts_of_all = [start for some in sets for start in some]
    assert len(set(starts_of_all)) == 30
    with pytest.raises(ConfigError, match=r"train\.eval_set 3: expected a number below 3"):
        dataset.validation_batches(10, 4, 3)


def test_too_few_validation_sequences_are_an_error_at_once():
    dataset = counting_dataset(tokens=101, context=10, validation_tokens=101)
    assert len(list(dataset.validation_batches(10, 10))) == 1
    with pytest.raises(ConfigError, match=r"train\.eval_sequences 11.*only 10 sequences"):
        dataset.validation_batches(11, 10)


def test_a_corpus_may_repeat_only_as_often_as_allowed():
    dataset = counting_dataset(tokens=101, context=10)  # 10 windows
    dataset.check_length(10, max_epochs=1)
    dataset.check_length(25, max_epochs=3)
    with pytest.raises(ConfigError) as error:
        dataset.check_length(25, max_epochs=2)
    message = str(error.value)
    for part in ("data.corpus 'counting'", "100 training", "250", "data.max_epochs 3"):
        assert part in message


def test_a_corpus_shorter_than_one_sequence_is_an_error():
    counting_dataset(tokens=11, context=10)
    with pytest.raises(ConfigError, match=r"data\.context 10.*only 10 tokens"):
        counting_dataset(tokens=10, context=10)

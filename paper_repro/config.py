"""What one training run is: `RunConfig`, strict, resolved, and addressed by its content.

Shapes are given here and multipliers are derived from them (`paper_repro.parameterization`), so a
config never states both. Everything that changes a run's numbers is a field of `RunConfig` and part
of its id; how a run executes (device, dtype, workers, compilation) is not: see `Execution`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from paper_repro.courses import Decay, Scheduled, Shape, check_course
from paper_repro.errors import ConfigError, explain
from paper_repro.parameterization import (
    BRANCHES,
    SDE_RULE,
    BetaRule,
    ModuleType,
    Parameterization,
    SdeQuantity,
)

Parallel = Literal["ddp", "fsdp"]

#: The quantities that module-type and depth multipliers act on. A multiplier of a beta acts on
#: one minus it, as the batch and duration rule does.
Quantity = Literal[SdeQuantity, "init_std", "residual"]

#: Goes up when a default changes: then every id changes, and `paper_repro.records.migrate` carries
#: records over. A new field needs no new version.
DEFAULTS_VERSION = 1

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: A zero has no sign: -0.0 is another text, and would be another run id.
_UNSIGNED_ZERO = AfterValidator(lambda value: value + 0.0)
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False), _UNSIGNED_ZERO]
Fraction = Annotated[float, Field(ge=0, le=1), _UNSIGNED_ZERO]
Beta = Annotated[float, Field(gt=0, lt=1)]
Curve = Annotated[list[NonNegativeFloat], Field(min_length=1)]
ObjectName = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
"""`package.module:name`, as Python's entry points have it."""


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class ModelConfig(_Strict):
    """The shape of our GPT (pre-norm RMSNorm, RoPE, QK norm, untied embeddings), or of a model of
    your own that `factory` makes."""

    width: PositiveInt = 64
    """d_model. Width grows by adding heads of fixed size."""
    depth: PositiveInt = 2
    """Number of blocks, each with an attention and an MLP branch."""
    factory: ObjectName | None = None
    """A function from width and depth to the model that is trained in place of our GPT, as
    `package.module:function`. What follows below is of our GPT alone, but for `mapping` and `tied`.
    """
    mapping: str = "llama"
    """What the parameters of the factory's model are: `llama`, `qwen3`, `gpt2`, `nanogpt`,
    `torchtitan`, or `package.module:NAME`, a list of `paper_repro.apply.Pattern`."""
    tied: bool = False
    """Whether the unembedding of the factory's model is its embedding."""
    head_dim: PositiveInt = 16
    """Size of a head, fixed as the width grows; there are width / head_dim heads."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """Activation of the MLP: GELU between two matrices, or SwiGLU with a third as its gate."""
    mlp_ratio: PositiveInt = 4
    """Hidden size of the MLP over the width."""
    qk_norm: bool = True
    """RMSNorm on queries and keys, its gains shared by the heads."""
    biases: bool = False
    """Biases on the hidden linear layers; norms and the unembedding have none."""

    @model_validator(mode="after")
    def _either_ours_or_foreign(self) -> ModelConfig:
        """Refuse what would act on nothing; what is at its default is as if it were not said."""
        foreign = ("mapping", "tied")
        of_ours = set(type(self).model_fields) - {"width", "depth", "factory", *foreign}
        idle = of_ours if self.factory else foreign
        for name, field in type(self).model_fields.items():
            if name in idle and getattr(self, name) != field.default:
                reason = "is of our GPT, not of model.factory" if self.factory else "needs factory"
                raise ValueError(f"{name}: {reason}")
        return self

    @model_validator(mode="after")
    def _heads(self) -> ModelConfig:
        if self.factory:
            return self
        if self.width % self.head_dim:
            raise ValueError(f"width {self.width} is not a multiple of head_dim {self.head_dim}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions (got {self.head_dim})")
        return self


class DataConfig(_Strict):
    """Which text, in which tokens, in sequences of which length."""

    corpus: str = "sotu"
    """`sotu`, `python`, `synthetic`, `files:<glob>` or `hf:<dataset>`; the last also as
    `hf:<dataset>@<revision>:<configuration>`, either part alone, or neither."""
    tokenizer: str = "bytes"
    """`bytes`, or `bpe:<vocabulary size>` trained on the corpus's training documents."""
    context: PositiveInt = 128
    """Tokens in a sequence."""
    max_epochs: PositiveInt = 1
    """How often the corpus may repeat; a corpus shorter than the tokens asked for is an error."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the documents kept for validation."""
    hub_bytes: PositiveInt = 2**30
    """Of a corpus `hf:<dataset>`, how much text is read, in UTF-8: an equal share of each of its
    files, from their beginnings. It acts on no other corpus."""


class SchedulePoint(_Strict):
    """Where a piecewise schedule is at a share of the training, and how it comes there."""

    at: Fraction
    """Share of the steps, warm-up included."""
    factor: NonNegativeFloat
    """On the hyperparameter's value."""
    shape: Shape = "linear"
    """Of the way from the point before; `step` stays at that until here."""


class TrainConfig(_Strict):
    """Batch, duration, schedule and loss."""

    batch_size: PositiveInt = 16
    """Sequences in a batch."""
    tokens: PositiveInt = 819_200
    """Training duration; the number of steps is tokens // (batch_size * context)."""
    schedule: Literal[
        "cosine", "linear", "wsd", "constant", "exponential", "inverse_sqrt", "piecewise"
    ] = "cosine"
    """Course of the learning rate after the warm-up; `wsd` is constant until its final decay,
    `inverse_sqrt` falls with the root of the step, `piecewise` goes through the points of
    `piecewise.lr`."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps in which the learning rate rises linearly from 0."""
    final_fraction: Fraction = 0.1
    """Learning rate at the end, over its peak (no effect with `constant`, `inverse_sqrt` and
    `piecewise`)."""
    decay_fraction: Fraction = 0.2
    """Share of the steps that decay at the end of `wsd`."""
    decay_shape: Decay = "linear"
    """Form of that decay; `sqrt` falls as 1 - √(its share)."""
    piecewise: dict[Scheduled, list[SchedulePoint]] = {}
    """Courses of hyperparameters as factors on their values, e.g.
    `{weight_decay: [{at: 0, factor: 1}, {at: 1, factor: 0.1, shape: cosine}]}`. The warm-up acts on
    the learning rate beside them; a beta is moved by one minus it."""
    clip: PositiveFloat | None = None
    """Gradient norm above which gradients are rescaled."""
    z_loss: NonNegativeFloat = 1e-4
    """Coefficient of the squared log-partition in the training loss (never in reported losses)."""
    evaluations: PositiveInt = 4
    """Evaluations on the fixed validation batches, evenly spaced; the last is at the end."""
    eval_sequences: PositiveInt = 256
    """Sequences in the fixed validation set."""
    eval_set: Annotated[int, Field(ge=0)] = 0
    """Which of the disjoint validation sets of this size: what was tuned on one is judged on
    another."""

    @model_validator(mode="after")
    def _ends_that_can_be_reached(self) -> TrainConfig:
        """Refuse schedules that are not given whole, and an exponential decay to nothing."""
        if (self.schedule == "piecewise") != ("lr" in self.piecewise):
            raise ValueError("piecewise.lr: expected just where schedule is piecewise")
        falls = self.decay_shape if self.schedule == "wsd" else self.schedule
        if falls == "exponential" and self.final_fraction == 0:
            raise ValueError("final_fraction: must be greater than 0 for an exponential decay")
        for quantity, points in self.piecewise.items():
            try:
                check_course(
                    quantity,
                    [point.at for point in points],
                    [point.factor for point in points],
                    [point.shape for point in points],
                )
            except ValueError as error:
                raise ValueError(f"piecewise.{quantity}: {error}") from None
        return self


class ScalingConfig(_Strict):
    """The parameterisation, and the base: the shape at which hyperparameters are stated."""

    parameterization: Parameterization = "complete_d"
    """Which column of the rule table scales the hyperparameters."""
    base_width: PositiveInt = 64
    """Width at which hyperparameters are stated."""
    base_depth: PositiveInt = 2
    """Number of blocks at which hyperparameters are stated."""
    base_batch_size: PositiveInt = 16
    """Sequences in a batch at which hyperparameters are stated."""
    base_tokens: PositiveInt = 819_200
    """Training duration at which hyperparameters are stated."""
    alpha: Annotated[float, Field(ge=0.5, le=1.0)] = 1.0
    """Depth exponent α of the residual multiplier m_L^-α."""
    beta_rule: BetaRule = "linear"
    """How betas follow κ = m_B / m_D: 1 - β' = κ (1 - β), or β' = β^κ."""
    sde_rule: list[SdeQuantity] = list(SDE_RULE)
    """The quantities that follow batch size and tokens, of a parameterisation with such a rule.
    All are the paper's rule; fewer are ablations of it, and none is no rule."""

    @field_validator("sde_rule")
    @classmethod
    def _one_spelling(cls, quantities: list[SdeQuantity]) -> list[SdeQuantity]:
        """Put the quantities into the order of `SDE_RULE`, so that one rule is one run id."""
        if len(set(quantities)) < len(quantities):
            raise ValueError("expected each quantity once")
        return [quantity for quantity in SDE_RULE if quantity in quantities]


class InitStd(_Strict):
    """Standard deviation of the initial weights at the base, per tensor class."""

    embedding: PositiveFloat = 1.0
    """Entries of the input embedding."""
    hidden_weight: PositiveFloat = 0.125
    """Entries of the matrices in blocks."""
    unembedding: PositiveFloat = 0.05
    """Entries of the matrix that gives the logits."""


class HyperparameterConfig(_Strict):
    """Hyperparameters as stated at the base, with multipliers per module type and per depth."""

    lr: PositiveFloat = 2**-6
    """Peak learning rate η."""
    weight_decay: NonNegativeFloat = 0.1
    """λ in PyTorch's form: a step decays a weight by lr * λ."""
    beta1: Beta = 0.9
    """Decay of AdamW's mean of the gradients."""
    beta2: Beta = 0.95
    """Decay of AdamW's mean of their squares."""
    eps: PositiveFloat = 1e-8
    """AdamW's ε, which its update adds to the root of that mean."""
    init_std: InitStd = InitStd()
    residual: PositiveFloat = 1.0
    """Multiplier of both residual branches."""
    module_multipliers: dict[ModuleType, dict[Quantity, NonNegativeFloat]] = {}
    """Factor for one module type, e.g. `{query: {lr: 2.0}}`; absent means 1."""
    depth_multipliers: dict[Quantity, Curve] = {}
    """Factors from the first block to the last, e.g. `{lr: [1.0, 0.5]}`; interpolated linearly in
    relative depth when the model has another number of blocks. Only parameters in blocks have one.
    """
    layer_multipliers: dict[ModuleType, dict[Quantity, Curve]] = {}
    """The same for one module type, e.g. `{query: {lr: [1.0, 0.5]}}`: with them every layer has
    hyperparameters of its own."""

    @model_validator(mode="after")
    def _multipliers(self) -> HyperparameterConfig:
        of_modules = {"module_multipliers": self.module_multipliers}
        of_layers = {"layer_multipliers": self.layer_multipliers}
        for section, by_module in (of_modules | of_layers).items():
            for module_type, factors in by_module.items():
                for quantity, factor in factors.items():
                    key = f"{section}.{module_type}.{quantity}"
                    if quantity == "residual" and module_type not in BRANCHES:
                        branches = " and ".join(BRANCHES)
                        raise ValueError(f"{key}: only {branches} end a residual branch")
                    _positive_unless_decay(key, quantity, factor)
        for quantity, curve in self.depth_multipliers.items():
            _positive_unless_decay(f"depth_multipliers.{quantity}", quantity, curve)
        return self


def _positive_unless_decay(key: str, quantity: Quantity, factors: float | list[float]) -> None:
    some = factors if isinstance(factors, list) else [factors]
    if 0 in some and quantity != "weight_decay":
        raise ValueError(f"{key}: must be greater than 0 (only weight_decay may be switched off)")


class RunConfig(_Strict):
    """One training run, whole."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    scaling: ScalingConfig = ScalingConfig()
    hyperparameters: HyperparameterConfig = HyperparameterConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Initial weights and the order of the data; runs that share it see the same batches."""
    init_seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Initial weights, where they are not those of `seed`: to tell the two apart."""

    @model_validator(mode="after")
    def _at_least_one_step(self) -> RunConfig:
        if self.steps < 1:
            raise ValueError(
                f"train.tokens {self.train.tokens} is less than one batch of "
                f"{self.train.batch_size} x {self.data.context} tokens"
            )
        return self

    @property
    def seed_of_weights(self) -> int:
        return self.seed if self.init_seed is None else self.init_seed

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.data.context

    @property
    def steps(self) -> int:
        """Optimiser steps: whole batches that fit into `train.tokens`."""
        return self.train.tokens // self.tokens_per_step

    @property
    def run_id(self) -> str:
        """`d1-` and 12 hexadecimal digits: the content hash of what differs from the defaults.

        So a new field, at its default, renames no run. The prefix says which defaults these are.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
        return f"d{DEFAULTS_VERSION}-{digest}"

    @property
    def bundle(self) -> tuple[Hashable, ...]:
        """What runs of one bundle share: all that decides a shape or what is computed when.

        Everything else (hyperparameters, scaling, schedule, clipping, z-loss, seed) is data.
        """
        train = self.train
        evaluated = (train.evaluations, train.eval_sequences, train.eval_set)
        return (self.model, self.data, train.batch_size, self.steps, *evaluated)


def parse_run_config(content: object, source: str) -> RunConfig:
    """Validate plain data (from YAML) into a `RunConfig`.

    Raises:
        ConfigError: naming `source`, the key and what was expected.
    """
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}") from None


class Execution(_Strict):
    """How runs execute. Not part of a run's identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of matrix products (autocast); parameters and optimiser state stay float32."""
    compile: bool = False
    """torch.compile the training step, once per bundle."""
    threads: PositiveInt = 1
    """CPU threads per process."""
    parallel: Parallel = "ddp"
    """What several processes that train one run have of its model: whole copies, or shards."""
    runs_at_once: PositiveInt | None = None
    """Runs of a bundle that train as one program; None: as many as fit on a GPU, one on a CPU."""
    accumulate: PositiveInt | None = None
    """Parts of each process's batch, computed one after the other to save memory; `null`: a launch
    takes as few as let a run fit on the GPU, all else takes one."""
    recompute: bool = False
    """Recompute each block in the backward pass, to keep only its input (arXiv 1604.06174)."""
    gradient_norms: bool = False
    """Log the largest norm of the gradients, which tells instability early in training."""
    checkpoint_seconds: NonNegativeFloat = 30.0
    """Wall time between checkpoints."""


LOGITS_BYTES = 2**28
"""Memory of the logits that are there at a time, in float32."""


def logits_parts(tokens: int, vocabulary: int) -> int:
    """Into how many parts the loss of some tokens is divided, so that logits are few enough."""
    return math.ceil(4 * tokens * vocabulary / LOGITS_BYTES)

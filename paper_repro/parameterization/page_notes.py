"""The prose of docs/rules.md around the tables, with the values that the code holds."""

from __future__ import annotations

import math

from paper_repro.config import RunConfig
from paper_repro.model.gpt import ROPE_BASE
from paper_repro.model.layers import NORM_EPS
from paper_repro.training.trainer import DIVERGED_ABOVE

_DEFAULT = RunConfig()
_MODEL, _DATA, _TRAIN = _DEFAULT.model, _DEFAULT.data, _DEFAULT.train
_BASE = _DEFAULT.hyperparameters


def _plain(value: float) -> str:
    """1e-6, as one writes it in YAML."""
    return f"{value:g}".replace("e-0", "e-")


BEFORE = """\
# The rules

<!-- Rendered: python -m paper_repro.parameterization.page > docs/rules.md -->

Factors on the base value of each hyperparameter, laid out like Table 1 of *Completed Hyperparameter
Transfer across Modules, Width, Depth, Batch and Duration* (arXiv 2512.22382). Every factor is 1 at
the base shape. A row's name links to the line of code that holds it. The same factors as numbers:
`python -m paper_repro.parameterization --width-ratio 4 --depth-ratio 2`.

- m_N = width / base width, m_L = depth / base depth (in blocks), m_B = batch size / base batch
  size, m_D = training tokens / base tokens.
- α, from ½ to 1, is the depth exponent (`scaling.alpha`).
- η, λ, ε, β1, β2 are AdamW's, in PyTorch's form: a step removes η·λ·θ from a weight θ.
- σ² is the variance of the initial values.

The columns: `complete_d` is Complete(d)P and `mup` is μP as that paper's Table 1 states it; `sp`,
the standard parameterisation, and `completep` are those of Dey et al. (arXiv 2505.01618).
`sp_fan_in` is ours: many people mean by SP an init variance proportional to 1/fan-in. Here the
base's variance is divided by m_N for hidden weights and the unembedding, and nothing else changes.
"""

AFTER = f"""\
## How sure

- **read**: in the paper's own table. `complete_d` and `mup` were read in 2512.22382 Table 1, `sp`
  and `completep` in 2505.01618 Table 1. `sp_fan_in` is our choice in every row.
- **agreed**: independent sources say so; we have not read it in the paper.
- **inference**: an argument of ours, to be treated as a hypothesis.
- **our choice**: the papers do not say, or we do not know.

The *why* columns give the usual arguments in our words. Where the source says *read*, that is
about the factor and not about the argument.

## How `completep` differs from the width and depth part of `complete_d`

- Logits are multiplied by m_N⁻¹; σ² and η of the unembedding stay unscaled (read).
- ε of the embedding is not scaled (read).
- Its λ row lists hidden weights only (read). The other classes are left at 1: our choice.
- QK norm gains are not covered. Here they are treated as hidden norm gains, under `mup` too: our
  choice.
- It has no batch and no duration rule (read).

## Batch size and duration

On every row of `complete_d`: η and λ × √(m_B/m_D), ε × √(m_D/m_B), 1 − β × m_B/m_D (read).

For batch size the argument is the SDE view of Adam (arXiv 2205.10287): a step takes the time η²,
and batch size and η set the noise together. It is first-order and needs gradients dominated by
noise. For duration the rule keeps the horizon, η² × steps, so that training longer only raises
the ratio of signal to noise (agreed). Exponents that others measured for duration disagree; take
this part as the paper's rule, not as a settled fact. With m_B = m_D all factors of batch and
duration are exactly 1, and the number of steps stays.

**Parts of it.** `scaling.sde_rule` lists the quantities that follow batch size and tokens, all by
default; with fewer, a run is an ablation of the rule (`sweeps/lr_batch.yaml`). That is ours.

**Betas.** `scaling.beta_rule: linear` (the default) is 1 − β' = κ (1 − β) with κ = m_B/m_D. It
leaves (0, 1) unless κ < 1/(1 − β): for the default β1 = {_BASE.beta1:g}, κ below \
{1 / (1 - _BASE.beta1):.3g}; for β2 = {_BASE.beta2:g}, below {1 / (1 - _BASE.beta2):.3g}.
Beyond that a run is refused with an error that names the limit; nothing is clamped. `exponential`
is β' = β^κ, equal to first order and valid for every κ. Offering it is our choice.

**Decoupled decay.** The table's λ is for PyTorch's decay η·λ·θ. Where decay does not contain η
(Loshchilov and Hutter's form), multiply the two factors: hidden weights m_L^(α−1) · m_B/m_D, the
unembedding m_B/m_D (algebra).

## Two forms of the unembedding

Write the unembedding as W = W'/m_N. Then (logits × m_N⁻¹; σ² 1, η 1, λ 1, ε m_N⁻¹ on W') and
(no multiplier; σ² m_N⁻², η m_N⁻¹, λ m_N, ε 1 on W) are one AdamW trajectory: Adam's step does not
change when gradient and ε shrink alike. This is inference (algebra), and a test trains both forms.
`complete_d` and `mup` are of the second, absorbed form. `completep` is of the first with ε 1
instead of m_N⁻¹: so it is the same trajectory only as far as ε does not matter.

## Our choices where the papers are silent

Agreed by independent sources: pre-norm, QK norm, fixed head size, cosine schedule, z-loss, final
validation loss as the metric. Untied embeddings are an inference. The rest of this list is our
choice; the values are the defaults of `paper_repro/config.py` unless a file is named.

- Model: RMSNorm with gains (its ε is {_plain(NORM_EPS)}), QK gains shared by the heads, head size \
{_MODEL.head_dim}, rotary positions with base {ROPE_BASE:,.0f}, an MLP of {_MODEL.mlp_ratio}× \
the width with {_MODEL.mlp.upper()} (or `swiglu`), {"" if _MODEL.biases else "no "}biases \
(`paper_repro/model/gpt.py`).
- Attention logits are scaled by 1/√(head size), a constant, since width adds heads.
- Base hyperparameters: η 2^{math.log2(_BASE.lr):g}, λ {_BASE.weight_decay:g}, β1 {_BASE.beta1:g}, \
β2 {_BASE.beta2:g}, ε {_plain(_BASE.eps)}.
- Init std at the base: embedding {_BASE.init_std.embedding:g}, hidden weights \
{_BASE.init_std.hidden_weight:g}, unembedding {_BASE.init_std.unembedding:g}. No extra factor for \
output projections: with m_L^−α it would count depth twice.
- Schedule: {_TRAIN.schedule}, warm-up over {_TRAIN.warmup_fraction:.0%} of the steps, down to \
{_TRAIN.final_fraction:g} of the peak.
- z-loss coefficient {_plain(_TRAIN.z_loss)}; reported losses are without it. Gradient clipping: \
{_TRAIN.clip or "none"}.
- Decay acts on every tensor, norm gains and biases too: the table has a λ for them. Whether the
  paper decays them is not known. `hyperparameters.module_multipliers` can switch it off.
- m_D compares tokens asked for, not steps; a run takes the whole batches that fit.
- Depth multipliers: for another depth they are interpolated linearly in relative depth (agreed).
  That the first and the last block keep the curve's first and last point is our choice.
- A multiplier of a beta acts on 1 − β, as the batch rule does.
- A run has diverged when its loss is not finite or above {DIVERGED_ABOVE:g}× the loss it started \
from (`paper_repro/records/recorder.py`). That is an outcome, and recorded.
- Evaluation: the same {_TRAIN.eval_sequences} validation sequences for every run, \
{_TRAIN.evaluations} times a run; the last is the result.
- Data: `{_DATA.corpus}` in {_DATA.tokenizer}, context {_DATA.context}, \
{_DATA.validation_fraction:.0%} of the documents kept for validation.
- Seeds: runs that share one see the same batches and draw the same normal numbers, each times its
  own standard deviation.
"""

"""Why each row of the rule table is what it is, and where it comes from: text for docs/rules.md.

The reasons are the usual arguments in our words, not quotations. The page
renders them beside the table; a test holds the keys against the table's rows.
"""

from __future__ import annotations

from typing import NamedTuple

ALL = "every tensor class"
"""The name of a row that all tensor classes share."""

#: complete_d and mup from the one paper, sp and completep from the other.
READ = "read: 2512.22382 Table 1, 2505.01618 Table 1"
READ_D = "read: 2512.22382 Table 1"
DECAY = f"{READ}; the latter lists hidden weights only, `completep` left at 1: our choice"
SDE = f"{READ_D}; the argument for batch size: 2205.10287; no such rule in 2505.01618"
QK_OTHERS = "`mup`, `completep` (not covered there) as hidden norm gains: our choice"

SAME_DEPTH = "In depth as for hidden weights."


class Reason(NamedTuple):
    """Text of one row."""

    why: str
    source: str


#: By quantity (`forward` for multipliers in the forward pass) and tensor class.
REASONS: dict[tuple[str, str], Reason] = {
    ("init_variance", "embedding"): Reason(
        "A token picks one row of the matrix; nothing is summed over the width.", READ
    ),
    ("init_variance", "hidden_weight"): Reason(
        "An output sums over a fan-in that grows as m_N; random terms add in square.", READ
    ),
    ("init_variance", "hidden_bias"): Reason("Biases start at 0.", READ),
    ("init_variance", "hidden_norm"): Reason("Gains start at 1.", READ),
    ("init_variance", "qk_norm"): Reason("Gains start at 1.", f"{READ_D}; {QK_OTHERS}"),
    ("init_variance", "final_norm"): Reason("Gains start at 1.", READ),
    ("init_variance", "unembedding"): Reason(
        "In training the final state aligns with these weights, so that the terms of a logit add "
        "up as the fan-in and not as its root: entries of size m_N⁻¹. CompleteP divides the "
        "logits instead.",
        READ,
    ),
    ("lr", "embedding"): Reason(
        "Adam moves an entry by about η, and a token's state is one row: it moves by η at any "
        "width.",
        READ,
    ),
    ("lr", "hidden_weight"): Reason(
        "Adam's update is aligned with its input, so an output moves by fan-in × η. The moves of "
        "all blocks add up to m_L · m_L^−α; m_L^(α−1) undoes that.",
        READ,
    ),
    ("lr", "hidden_bias"): Reason(
        f"A bias is added as it is, without a sum over the width. {SAME_DEPTH}", READ
    ),
    ("lr", "hidden_norm"): Reason(
        f"A gain acts on one channel, without a sum over the width. {SAME_DEPTH}", READ
    ),
    ("lr", "qk_norm"): Reason(
        f"As hidden norm gains; the head size does not change. {SAME_DEPTH}",
        "inference that `complete_d` falls under the hidden norms of 2512.22382 Table 1; "
        f"{QK_OTHERS}",
    ),
    ("lr", "final_norm"): Reason("One channel each, and outside the blocks.", READ),
    ("lr", "unembedding"): Reason(
        "In width as hidden weights; outside the blocks. In CompleteP the logits multiplier "
        "does it.",
        READ,
    ),
    ("eps", "embedding"): Reason(
        "Its gradient comes back through an unembedding with entries of size m_N⁻¹. CompleteP "
        "leaves it unscaled.",
        READ,
    ),
    ("eps", "hidden_weight"): Reason(
        "Its gradient comes back through the unembedding (m_N⁻¹) and the residual multiplier "
        "(m_L^−α).",
        READ,
    ),
    ("eps", "hidden_bias"): Reason("As hidden weights.", READ),
    ("eps", "hidden_norm"): Reason("As hidden weights.", READ),
    ("eps", "qk_norm"): Reason(
        "The heads share the gains: a gradient sums over m_N heads, each part of size m_N⁻¹. "
        "At the start the parts do not add up like that yet ([measured](../docs/eps_rows.md)).",
        f"{READ_D}; {QK_OTHERS}",
    ),
    ("eps", "final_norm"): Reason(
        "Grouped with the output rows, as printed. By the argument of the embedding one would "
        "expect m_N⁻¹ (inference), and so [we measure](../docs/eps_rows.md): in width this row "
        "looks inconsistent. We keep the paper's.",
        READ,
    ),
    ("eps", "unembedding"): Reason(
        "Its gradient is the error of the logits times the final state; neither changes size. "
        "Behind CompleteP's logits multiplier the gradient is m_N times smaller and its ε is not.",
        READ,
    ),
    ("weight_decay", "embedding"): Reason("η has no width factor to undo.", DECAY),
    ("weight_decay", "hidden_weight"): Reason(
        "A step removes the share η·λ of a weight; m_N undoes the m_N⁻¹ of η. The depth factor "
        "of η is not undone.",
        READ,
    ),
    ("weight_decay", "hidden_bias"): Reason("η has no width factor to undo.", DECAY),
    ("weight_decay", "hidden_norm"): Reason("η has no width factor to undo.", DECAY),
    ("weight_decay", "qk_norm"): Reason("η has no width factor to undo.", f"{READ_D}; {QK_OTHERS}"),
    ("weight_decay", "final_norm"): Reason("η has no width factor to undo.", DECAY),
    ("weight_decay", "unembedding"): Reason(
        "As hidden weights. In CompleteP η has no width factor to undo.", DECAY
    ),
    ("one_minus_beta1", ALL): Reason(
        "An average over 1/(1−β) steps should span the same time, and a step lasts η² ∝ m_B/m_D.",
        SDE,
    ),
    ("one_minus_beta2", ALL): Reason("As β1.", SDE),
    ("forward", "residual"): Reason(
        "Keeps the residual stream from growing with the number of blocks: x + m_L^−α · "
        "Block(x), for attention and MLP alike.",
        READ,
    ),
    ("forward", "logits"): Reason(
        "CompleteP's way to keep logits stable in width; Complete(d)P puts it into the "
        "unembedding (see *Two forms of the unembedding*).",
        READ,
    ),
}

"""Sparse cross-modal attention of MESM: what is said decides where to look, and only there is computed."""

from typing import Any

import torch
from torch import Tensor, nn

from trainables.networks.products import linear
from trainables.networks.sparse import Sites

GATES = ("straight_through", "soft", "hard")
_EVEN = 1e-6
"""Shares that differ by less count as reached: sums of many shares are no more exact."""


def nucleus(shares: Tensor, p: float) -> Tensor:
    """Return the fewest sites that hold a share ``p`` of the attention, ``(B, S) -> (B, S)`` bool (Fig. 3-4).

    The largest shares first; the one that reaches ``p`` is the last. Of equal ones the first are taken; of two that
    differ by no more than rounding, which one is taken last may depend on what else is in the batch.

    Args:
        shares: attention, not negative, each row sums to 1; sites with 0 are never taken, but for rounding.
        p: in (0, 1].

    >>> nucleus(torch.tensor([[0.1, 0.4, 0.2, 0.3]]), 0.6).tolist()
    [[False, True, False, True]]
    """
    order = shares.argsort(dim=1, descending=True, stable=True)
    before = shares.gather(1, order).double().cumsum(1).roll(1, dims=1)
    before[:, 0] = 0
    kept = torch.zeros_like(shares, dtype=torch.bool).scatter(1, order, before < p - _EVEN)
    return (kept | (p >= 1)) & (shares > 0)


class SparseAttention(nn.Module):
    r"""Keeps the active sites of each picture that matter to the text.

    :math:`a = \mathrm{softmax}(w^T \tanh(W_x x + b + W_q q))` over the active sites of a picture, with the text q of
    its utterance; then the nucleus of a: the fewest sites that hold a share p. Without text the bias asks alone.

    What is kept is passed on with a gate. The paper multiplies by the mask, and the released code takes the mask from
    a detached copy: either way no gradient reaches the attention or, through it, the text (``hard``). With
    ``straight_through`` the gate is 1 forward and ``n a`` backward, n the number of active sites, so that even
    attention has the scale of 1; with ``soft`` it is ``n a`` in both.

    Args:
        channels: features of a site, and of the space they are compared in.
        query: features of the text; 0 for none.
        p: the share of the attention that is kept, in (0, 1].
        gate: see ``GATES``.
    """

    def __init__(self, channels: int, query: int, p: float, gate: str) -> None:
        super().__init__()
        self.p = p
        self.gate = gate
        self.channel_affine = nn.Linear(channels, channels)
        self.y_affine = nn.Linear(query, channels, bias=False) if query else None
        self.attn_weight_affine = nn.Linear(channels, 1, bias=False)  # a softmax does not see a bias
        if gate == "hard":
            self.requires_grad_(False)  # as nothing would ever train it

    def forward(self, sites: Sites, query: Tensor | None, utterances: Tensor) -> Sites:
        """Return the sites that are kept, gated.

        Args:
            sites: of B pictures.
            query: the text of each utterance, ``(N, query)``, or None.
            utterances: which utterance each picture is of, ``(B,)``.
        """
        attention = self.attention(sites, query, utterances)
        mask = nucleus(attention.detach(), self.p).view_as(sites.mask)
        kept = sites.kept(mask)
        if self.gate == "hard":
            return kept
        gates = (attention * sites.mask.flatten(1).sum(1, keepdim=True)).flatten()[kept.places].unsqueeze(1)
        gates = gates.to(kept.rows.dtype)
        if self.gate == "soft":
            return kept.with_rows(kept.rows * gates)
        passed: Tensor = _Passed.apply(kept.rows, gates)
        return kept.with_rows(passed)

    def attention(self, sites: Sites, query: Tensor | None, utterances: Tensor) -> Tensor:
        """Return the share of each site, 0 where not active, ``(B, H W)``; every picture has an active one."""
        compared = linear(sites.rows, self.channel_affine)
        if self.y_affine is not None and query is not None:
            pictures = sites.places // sites.mask[0].numel()
            compared = compared + self.y_affine(query).index_select(0, utterances[pictures])
        scores = self.attn_weight_affine(compared.tanh()).squeeze(1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        every = scores.new_full((sites.mask.numel(),), -torch.inf).index_copy(0, sites.places, scores)
        shares: Tensor = every.view(len(sites.mask), -1).softmax(1)
        return shares


class _Passed(torch.autograd.Function):
    """Rows passed on as they are, with the gradient of rows times gates where all gates are 1."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gates: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        ctx.save_for_backward(rows)
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        (gradient,) = gradients
        (rows,) = ctx.saved_tensors
        return gradient, (gradient * rows).sum(1, keepdim=True)

"""Gives the storyteller's first two layers heads that look things up, so that training need not wait until they come about.

What a small network learns last, and most suddenly, is to find a word's earlier place in the text and to take what stood
beside it. That takes two heads in a row that are of no use without each other. Here they are set by hand before training:

- layer 0: a head that sees the token before, and writes it to a corner of the residual stream that embeddings leave free;
- layer 1: a head that sees where the present token came before, one place on, and brings what stands there (induction);
  and one that sees where the present token came before, and brings what stood in front of it.

Everything else begins at random, and training may change all of it.
"""

import torch

CONSTANT = 0  # the column in which all embeddings are alike
FREE = 32  # columns at the end in which embeddings begin at zero
STILL = 7  # pairs of a head from this one on hardly turn within a text
TURNING = 4  # pairs of a head that tell neighbours apart


def orthonormal(rows, columns):
    return torch.linalg.qr(torch.randn(columns, rows))[0].T


@torch.no_grad()
def prime(model):
    """Sets the embeddings and the heads of the first two layers of a network with at least two heads of 32 columns."""
    s, half = model.sizes, model.sizes.head // 2
    plain = slice(1, s.hidden - FREE)
    table = model.model.embed_tokens.weight
    table.normal_(0, 0.1)
    table[:, CONSTANT] = 0.3
    table[:, s.hidden - FREE :] = 0.0
    spelled = orthonormal(s.head, s.hidden - FREE - 1)

    first = model.model.layers[0].self_attn
    speeds = s.theta ** (-torch.arange(0, s.head, 2) / s.head)
    query, key = torch.zeros(s.head), torch.zeros(s.head)
    key[:TURNING] = 1.0
    query[:TURNING], query[half : half + TURNING] = speeds[:TURNING].cos(), -speeds[:TURNING].sin()
    for matrix, row in ((first.q_proj.weight, query), (first.k_proj.weight, key)):
        matrix[: s.head] *= 0.02
        matrix[: s.head, CONSTANT] = row
    first.v_proj.weight[: s.head] = 0.0
    first.v_proj.weight[: s.head, plain] = spelled
    first.o_proj.weight[s.hidden - FREE :, : s.head] = 0.1 * torch.eye(s.head)

    second = model.model.layers[1].self_attn
    still = torch.zeros(s.head, 1)
    still[STILL:half] = still[half + STILL :] = 1.0
    share = s.heads // s.kv_heads
    induction, before = slice(0, s.head), slice(share * s.head, (share + 1) * s.head)
    for matrix, rows, columns, values in (
        (second.q_proj.weight, induction, plain, still * spelled),
        (second.k_proj.weight, slice(0, s.head), slice(s.hidden - FREE, None), still * torch.eye(s.head)),
        (second.v_proj.weight, slice(0, s.head), plain, orthonormal(s.head, s.hidden - FREE - 1)),
        (second.q_proj.weight, before, plain, still * spelled),
        (second.k_proj.weight, slice(s.head, 2 * s.head), plain, still * spelled),
        (second.v_proj.weight, slice(s.head, 2 * s.head), slice(s.hidden - FREE, None), torch.eye(s.head)),
    ):
        matrix[rows] = 0.0
        matrix[rows, columns] = values
    second.o_proj.weight[plain, induction] = second.v_proj.weight[: s.head, plain].T
    second.o_proj.weight[plain, before] = 0.1 * spelled.T
    for attention in (first, second):
        attention.q_norm.weight.fill_(2.0)
        attention.k_norm.weight.fill_(2.0)

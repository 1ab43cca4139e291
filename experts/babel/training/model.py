"""The babel language model: a byte-level decoder whose feed-forward layers are experts behind a capacity-limited router.

Axes: B windows, T bytes of a window, N = B * T, H hidden, F expert inner size, E experts, K choices per token.
"""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Sizes:
    hidden: int = 128
    heads: int = 4
    layers: int = 4
    experts: int = 8
    choices: int = 2
    inner: int = 256
    vocabulary: int = 257
    context: int = 2048
    capacity_factor: float = 2.0
    capacity_minimum: int = 4


BEGIN = 256


def capacity(tokens, sizes):
    """[tokens] rows that one expert may hold after n = 1 .. tokens tokens: max(minimum, ceil(n / E * factor * K)), as DeepSpeed rounds."""
    n = torch.arange(1, tokens + 1, dtype=torch.float64)
    share = n / sizes.experts * sizes.capacity_factor * sizes.choices
    return torch.clamp(torch.ceil(share), min=sizes.capacity_minimum)


def admit(chosen, limit):
    """chosen [B,T,E] of 0 and 1, limit [T] non-decreasing -> kept [B,T,E] of 0 and 1.

    Token n is kept where fewer than limit[n] earlier tokens of its window were: kept counts follow
    count[n] = min(count[n-1] + chosen[n], limit[n]), whose solution is
    count[n] = A[n] + min(0, min over s <= n of (limit[s] - A[s])) with A the running sum of `chosen`.
    """
    arrived = chosen.cumsum(1)
    slack = (limit[None, :, None] - arrived).cummin(1).values.clamp(max=0)
    count = arrived + slack
    return torch.diff(count, dim=1, prepend=torch.zeros_like(count[:, :1]))


def rotate(x, cos, sin):
    """Rotary position embedding (Su et al. 2021) over the two halves of each head; x [B,heads,T,size]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rotary_tables(context, size):
    angle = torch.arange(context)[:, None] / 10000 ** (torch.arange(size // 2) / (size // 2))
    return angle.cos(), angle.sin()


class Norm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich 2019)."""

    def __init__(self, hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Attention(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.heads, self.size = sizes.heads, sizes.hidden // sizes.heads
        self.qkv = nn.Parameter(torch.randn(sizes.hidden, 3 * sizes.hidden) * sizes.hidden**-0.5)
        self.out = nn.Parameter(torch.randn(sizes.hidden, sizes.hidden) * sizes.hidden**-0.5 / (2 * sizes.layers) ** 0.5)
        cos, sin = rotary_tables(sizes.context, self.size)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x):
        B, T, H = x.shape
        q, k, v = (x @ self.qkv).view(B, T, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, self.cos[:T], self.sin[:T]), rotate(k, self.cos[:T], self.sin[:T])
        future = torch.full((T, T), -1e9).triu(1)
        weights = torch.softmax(torch.baddbmm(future, (q * self.size**-0.5).reshape(-1, T, self.size), k.reshape(-1, T, self.size).transpose(1, 2)), -1)
        y = (weights @ v.reshape(-1, T, self.size)).view(B, self.heads, T, self.size)
        return y.transpose(1, 2).reshape(B, T, H) @ self.out


class Experts(nn.Module):
    """Top-2 of 8 SwiGLU experts: weights are the softmax over the two chosen logits (Jiang et al. 2024), dropped choices add nothing."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        H, I, E = sizes.hidden, sizes.inner, sizes.experts
        self.gate = nn.Parameter(torch.randn(H, E) * H**-0.5)
        self.up = nn.Parameter(torch.randn(E, H, 2 * I) * H**-0.5)
        self.down = nn.Parameter(torch.randn(E, I, H) * I**-0.5 / (2 * sizes.layers) ** 0.5)

    def forward(self, x):
        B, T, H = x.shape
        sizes = self.sizes
        logits = x @ self.gate
        top, chosen = logits.topk(sizes.choices, -1)
        weights = torch.softmax(top, -1)
        one_hot = torch.zeros(B, T, sizes.experts, dtype=torch.float64).scatter_(-1, chosen, 1.0)
        kept = admit(one_hot, capacity(T, sizes)).gather(-1, chosen) > 0.5
        y = self.run(x.reshape(B * T, H), chosen.reshape(B * T, -1), (weights * kept).reshape(B * T, -1), kept.reshape(B * T, -1))
        return y.view(B, T, H), {"logits": logits, "chosen": chosen, "kept": kept, "one_hot": one_hot}

    def run(self, x, chosen, weights, kept):
        """Sorts the kept assignments by expert; x [N,H] -> [N,H]."""
        y = torch.zeros_like(x)
        for e in range(self.sizes.experts):
            token, choice = torch.nonzero((chosen == e) & kept, as_tuple=True)
            a, b = (x.index_select(0, token) @ self.up[e]).chunk(2, -1)
            out = (F.silu(a) * b) @ self.down[e]
            y = y.index_add(0, token, out * weights[token, choice][:, None])
        return y


class Dense(nn.Module):
    """The feed-forward layer with the active size of K experts."""

    def __init__(self, sizes):
        super().__init__()
        H, I = sizes.hidden, sizes.inner * sizes.choices
        self.up = nn.Parameter(torch.randn(H, 2 * I) * H**-0.5)
        self.down = nn.Parameter(torch.randn(I, H) * I**-0.5 / (2 * sizes.layers) ** 0.5)

    def forward(self, x):
        a, b = (x @ self.up).chunk(2, -1)
        return (F.silu(a) * b) @ self.down, None


class Babel(nn.Module):
    def __init__(self, sizes=Sizes(), kind="moe"):
        super().__init__()
        self.sizes = sizes
        layer = Experts if kind == "moe" else Dense
        self.embed = nn.Parameter(torch.randn(sizes.vocabulary, sizes.hidden) * 0.5)
        self.attention = nn.ModuleList(Attention(sizes) for _ in range(sizes.layers))
        self.ffn = nn.ModuleList(layer(sizes) for _ in range(sizes.layers))
        self.norm1 = nn.ModuleList(Norm(sizes.hidden) for _ in range(sizes.layers))
        self.norm2 = nn.ModuleList(Norm(sizes.hidden) for _ in range(sizes.layers))
        self.norm = Norm(sizes.hidden)
        self.head = nn.Parameter(torch.zeros(sizes.hidden, sizes.vocabulary))

    def forward(self, ids):
        """ids [B,T] -> logits [B,T,V] and what each layer's router decided."""
        x = self.embed[ids]
        routing = []
        for norm1, attention, norm2, ffn in zip(self.norm1, self.attention, self.norm2, self.ffn):
            x = x + attention(norm1(x))
            y, decided = ffn(norm2(x))
            x = x + y
            routing.append(decided)
        return self.norm(x) @ self.head, routing


def router_losses(routing, sizes):
    """Load-balancing loss, 1 when balanced (Fedus et al. 2021, eq. 4, over all K choices before drops), and z-loss (Zoph et al. 2022, eq. 5); means over layers."""
    balance, z = 0.0, 0.0
    for layer in routing:
        probabilities = torch.softmax(layer["logits"], -1).mean((0, 1))
        share = layer["one_hot"].mean((0, 1)).float() / sizes.choices
        balance = balance + sizes.experts * (probabilities * share).sum()
        z = z + torch.logsumexp(layer["logits"], -1).pow(2).mean()
    return balance / len(routing), z / len(routing)

"""The storyteller's network: a Qwen3 decoder (RMS norms, rotary positions, grouped heads with normalized queries and keys, gated units).

Written out so that training needs PyTorch only. Parameters have the names of Hugging Face's files, so that the state is the
file; the embedding table is the head too.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Sizes:
    vocabulary: int = 2048
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head: int = 32
    intermediate: int = 384
    context: int = 1024
    theta: float = 1_000_000.0
    epsilon: float = 1e-6

    def config(self, end, pad):
        """`config.json` as transformers writes it for this network."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": None,
            "eos_token_id": end,
            "head_dim": self.head,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.context,
            "max_window_layers": self.layers,
            "model_type": "qwen3",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pad_token_id": pad,
            "rms_norm_eps": self.epsilon,
            "rope_scaling": None,
            "rope_theta": self.theta,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocabulary,
        }


class Norm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def turned(x, cos, sin):
    """Heads turned by their positions: first halves against second halves."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q, k, v):
    """What queries take from the values before them, in two plain products: faster on a CPU, for short texts, than the fused kernel."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if q.shape[2] > 1:
        later = torch.full(scores.shape[-2:], -1e4, dtype=scores.dtype, device=scores.device).triu(1)
        scores = scores + later
    return scores.softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.sizes = s
        self.q_proj = linear(s.hidden, s.heads * s.head)
        self.k_proj = linear(s.hidden, s.kv_heads * s.head)
        self.v_proj = linear(s.hidden, s.kv_heads * s.head)
        self.o_proj = linear(s.heads * s.head, s.hidden)
        self.q_norm = Norm(s.head, s.epsilon)
        self.k_norm = Norm(s.head, s.epsilon)

    def forward(self, x, cos, sin, past=None):
        s, (rows, length, _) = self.sizes, x.shape
        split = lambda y, heads: y.view(rows, length, heads, s.head).transpose(1, 2)
        q = turned(self.q_norm(split(self.q_proj(x), s.heads)), cos, sin)
        k = turned(self.k_norm(split(self.k_proj(x), s.kv_heads)), cos, sin)
        v = split(self.v_proj(x), s.kv_heads)
        if past is not None:
            k, v = past[:] = [torch.cat([old, new], dim=2) for old, new in zip(past, (k, v))] if past else [k, v]
        k, v = (y.repeat_interleave(s.heads // s.kv_heads, dim=1) for y in (k, v))
        seen = attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.o_proj(seen.transpose(1, 2).reshape(rows, length, -1))


class Units(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj = linear(s.hidden, s.intermediate)
        self.up_proj = linear(s.hidden, s.intermediate)
        self.down_proj = linear(s.intermediate, s.hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.self_attn = Attention(s)
        self.mlp = Units(s)
        self.input_layernorm = Norm(s.hidden, s.epsilon)
        self.post_attention_layernorm = Norm(s.hidden, s.epsilon)

    def forward(self, x, cos, sin, past=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Inner(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocabulary, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = Norm(s.hidden, s.epsilon)


class Storyteller(nn.Module):
    """Tokens `[rows, length]` to logits `[rows, length, vocabulary]`."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.model = Inner(sizes)
        speeds = sizes.theta ** (-torch.arange(0, sizes.head, 2) / sizes.head)
        angles = torch.arange(sizes.context)[:, None] * speeds
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 if "embed" in name else p.shape[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(p)

    def forward(self, tokens, past=None):
        """`past` is a list with an empty list for each layer, which then hold keys and values for the tokens that follow.

        After the first call with a `past`, tokens come one at a time.
        """
        first = past[0][0].shape[2] if past and past[0] else 0
        places = slice(first, first + tokens.shape[1])
        cos, sin = self.cos[places], self.sin[places]
        x = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(tokens.device.type):
            dtype = torch.get_autocast_dtype(tokens.device.type)
            x, cos, sin = x.to(dtype), cos.to(dtype), sin.to(dtype)
        for number, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, None if past is None else past[number])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

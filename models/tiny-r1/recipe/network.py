"""The DeepSeek-V3 architecture in plain PyTorch, for training on a CPU.

Latent attention, a mixture of experts with a bias-balanced router, and one block that
predicts the token after the next. N is the number of token rows of a batch, padded so that
matrix shapes repeat: oneDNN compiles a kernel for every new shape, which costs seconds.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

ROW_MULTIPLE = 256		# token rows and head rows are padded to this
EXPERT_MULTIPLE = 64		# and the rows of one expert to this
LONGEST_TRAINED = 512
PAD_ID = 2


@dataclass(frozen=True)
class Shape:
    """Named as in config.json."""
    vocab_size: int = 768
    hidden_size: int = 192
    num_hidden_layers: int = 4
    first_k_dense_replace: int = 1
    intermediate_size: int = 384
    moe_intermediate_size: int = 64
    n_routed_experts: int = 8
    num_experts_per_tok: int = 2
    n_shared_experts: int = 1
    num_attention_heads: int = 4
    q_lora_rank: int = 64
    kv_lora_rank: int = 64
    qk_nope_head_dim: int = 32
    qk_rope_head_dim: int = 16
    v_head_dim: int = 32
    rope_theta: float = 10000.0
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-6

    @property
    def qk_head_dim(self):
        return self.qk_nope_head_dim + self.qk_rope_head_dim


class Arithmetic:
    """Whether matrix products run in bfloat16 (fast with AVX512-BF16, slow without)."""
    bfloat16 = False


class LinearBF16(torch.autograd.Function):
    """y = x w^T with bfloat16 operands; weights and activations stay in float32."""

    @staticmethod
    def forward(context, x, weight):
        x, weight = x.bfloat16(), weight.bfloat16()
        context.save_for_backward(x, weight)
        return F.linear(x, weight).float()

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        gradient = gradient.bfloat16()
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (gradient @ weight).float(), (rows.t() @ x.reshape(-1, x.shape[-1])).float()


def linear(x, weight):
    return LinearBF16.apply(x, weight) if Arithmetic.bfloat16 else F.linear(x, weight)


class NormFunction(torch.autograd.Function):
    """Root-mean-square norm with its gradient in one piece: half the time of autograd's."""

    @staticmethod
    def forward(context, x, weight, epsilon):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
        normed = x * scale
        context.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(context, gradient):
        normed, scale, weight = context.saved_tensors
        weighted = gradient * weight
        dx = (weighted - normed * (weighted * normed).mean(-1, keepdim=True)) * scale
        return dx, (gradient * normed).reshape(-1, normed.shape[-1]).sum(0), None


class Norm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return NormFunction.apply(x, self.weight, self.epsilon)


def matrix(*shape, scale=None):
    if scale is None:
        scale = 0.6 / math.sqrt(shape[-1])
    return nn.Parameter(torch.randn(*shape) * scale)


def rotation_tables(shape):
    """cos and sin, (max_position_embeddings, qk_rope_head_dim / 2)"""
    size = shape.qk_rope_head_dim
    frequency = shape.rope_theta ** (-torch.arange(0, size, 2).float() / size)
    angle = torch.arange(shape.max_position_embeddings).float()[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Rotary position embedding over interleaved pairs (2i, 2i+1)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


@dataclass
class Window:
    """Which rows are computed: B sequences of T tokens, from @start on."""
    batch: int
    length: int
    start: int
    cos: torch.Tensor
    sin: torch.Tensor
    mask: torch.Tensor


class Attention(nn.Module):
    """Multi-head latent attention, in the expanded form."""

    def __init__(self, shape):
        super().__init__()
        heads = shape.num_attention_heads
        down = shape.q_lora_rank + shape.kv_lora_rank + shape.qk_rope_head_dim
        self.shape = shape
        self.down = matrix(down, shape.hidden_size)	# q_a_proj over kv_a_proj_with_mqa
        self.q_norm = Norm(shape.q_lora_rank, shape.rms_norm_eps)
        self.kv_norm = Norm(shape.kv_lora_rank, shape.rms_norm_eps)
        self.q_up = matrix(heads * shape.qk_head_dim, shape.q_lora_rank)
        self.kv_up = matrix(heads * (shape.qk_nope_head_dim + shape.v_head_dim), shape.kv_lora_rank)
        self.out = matrix(shape.hidden_size, heads * shape.v_head_dim, scale=0.0)

    def project(self, x, window):
        """Queries, keys (B, heads, T, qk_head_dim) and values (B, heads, T, v_head_dim)"""
        s, batch, length = self.shape, window.batch, window.length
        rows, heads = batch * length, s.num_attention_heads
        q, kv, k_rope = linear(x, self.down).split((s.q_lora_rank, s.kv_lora_rank, s.qk_rope_head_dim), -1)
        q = linear(self.q_norm(q), self.q_up)[:rows].view(batch, length, heads, s.qk_head_dim)
        kv = linear(self.kv_norm(kv), self.kv_up)[:rows].view(batch, length, heads, -1)
        k_plain, v = kv.split((s.qk_nope_head_dim, s.v_head_dim), -1)
        q_plain, q_rope = q.split((s.qk_nope_head_dim, s.qk_rope_head_dim), -1)
        q_rope = rotate(q_rope, window.cos[:, None], window.sin[:, None])
        k_rope = rotate(k_rope[:rows].view(batch, length, -1), window.cos, window.sin)
        k_rope = k_rope[:, :, None].expand(batch, length, heads, s.qk_rope_head_dim)
        q = torch.cat((q_plain, q_rope), -1)
        k = torch.cat((k_plain, k_rope), -1)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x, window, cache=None):
        q, k, v = self.project(x, window)
        if cache is not None:
            end = window.start + window.length
            cache[0][:, :, window.start:end], cache[1][:, :, window.start:end] = k, v
            k, v = cache[0][:, :, :end], cache[1][:, :, :end]
        scores = torch.matmul(q * self.shape.qk_head_dim ** -0.5, k.transpose(-1, -2))
        if window.mask is not None:
            scores = scores + window.mask
        mixed = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2)
        mixed = mixed.reshape(window.batch * window.length, -1)
        return linear(F.pad(mixed, (0, 0, 0, x.shape[0] - mixed.shape[0])), self.out)


def gated(x, gate_up, down):
    gate, up = linear(x, gate_up).chunk(2, -1)
    return linear(F.silu(gate) * up, down)


class MLP(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_up = matrix(2 * inner, hidden)
        self.down = matrix(hidden, inner, scale=0.0)

    def forward(self, x):
        return gated(x, self.gate_up, self.down)


class Experts(nn.Module):
    """Sigmoid router; the bias steers only the choice and is set by the load, not by gradients."""

    def __init__(self, shape):
        super().__init__()
        n, hidden, inner = shape.n_routed_experts, shape.hidden_size, shape.moe_intermediate_size
        self.n_chosen = shape.num_experts_per_tok
        self.router = matrix(n, hidden, scale=0.5 / math.sqrt(hidden))
        self.register_buffer("bias", torch.zeros(n))
        self.register_buffer("load", torch.zeros(n), persistent=False)
        self.gate_up = matrix(n, 2 * inner, hidden)
        self.down = matrix(n, hidden, inner, scale=0.0)
        self.shared = MLP(hidden, inner * shape.n_shared_experts)

    def choose(self, x):
        """Indices and weights of the chosen experts, both (N, n_chosen)"""
        scores = torch.sigmoid(F.linear(x, self.router))
        chosen = (scores + self.bias).detach().topk(self.n_chosen, -1)[1]
        weights = scores.gather(1, chosen)
        return chosen, weights / (weights.sum(-1, keepdim=True) + 1e-20)

    def sort_by_expert(self, chosen, weights):
        """For each padded row of the experts' input: its token and its weight."""
        flat = chosen.reshape(-1)
        order = flat.argsort()
        count = torch.bincount(flat, minlength=self.router.shape[0])
        if self.training:
            self.load += count
        multiple = EXPERT_MULTIPLE if self.training else 1
        padded = torch.div(count + multiple - 1, multiple, rounding_mode="floor") * multiple
        shift = (padded.cumsum(0) - padded) - (count.cumsum(0) - count)
        slots = torch.arange(flat.shape[0]) + shift[flat[order]]
        tokens = torch.zeros(int(padded.sum()), dtype=torch.long)
        tokens[slots] = torch.div(order, self.n_chosen, rounding_mode="floor")
        ordered = weights.reshape(-1).index_select(0, order)
        return tokens, torch.zeros(tokens.shape[0]).index_put((slots,), ordered), padded.tolist()

    def forward(self, x):
        tokens, weights, sizes = self.sort_by_expert(*self.choose(x))
        inputs = x.index_select(0, tokens).split(sizes)
        outputs = [gated(rows, self.gate_up[e], self.down[e])
                   for e, rows in enumerate(inputs) if rows.shape[0]]
        return self.shared(x).index_add(0, tokens, torch.cat(outputs) * weights[:, None])


class Block(nn.Module):
    def __init__(self, shape, with_experts):
        super().__init__()
        self.attention_norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.attention = Attention(shape)
        self.mlp_norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Experts(shape) if with_experts else MLP(shape.hidden_size, shape.intermediate_size)

    def forward(self, x, window, cache=None):
        x = x + self.attention(self.attention_norm(x), window, cache)
        return x + self.mlp(self.mlp_norm(x))


class NextToken(nn.Module):
    """The multi-token prediction block; embedding and head are the model's own."""

    def __init__(self, shape):
        super().__init__()
        hidden = shape.hidden_size
        self.embedding_norm = Norm(hidden, shape.rms_norm_eps)
        self.hidden_norm = Norm(hidden, shape.rms_norm_eps)
        self.block = Block(shape, with_experts=True)
        self.norm = Norm(hidden, shape.rms_norm_eps)


class Network(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = matrix(shape.vocab_size, shape.hidden_size, scale=0.5)
        self.layers = nn.ModuleList(Block(shape, i >= shape.first_k_dense_replace)
                                    for i in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.head = matrix(shape.vocab_size, shape.hidden_size, scale=0.02)
        self.next = NextToken(shape)
        self.next_join = matrix(shape.hidden_size, 2 * shape.hidden_size)
        cos, sin = rotation_tables(shape)
        mask = torch.full((LONGEST_TRAINED, LONGEST_TRAINED), -1e9).triu(1)
        for name, table in (("cos", cos), ("sin", sin), ("mask", mask)):
            self.register_buffer(name, table, persistent=False)

    def experts(self):
        return [module for module in self.modules() if isinstance(module, Experts)]

    def window(self, ids, start=0):
        batch, length = ids.shape
        end = start + length
        mask = self.mask[:length, :length] if start == 0 and length > 1 else None
        return Window(batch, length, start, self.cos[start:end], self.sin[start:end], mask)

    def embed(self, ids):
        flat = ids.reshape(-1)
        if self.training:
            flat = F.pad(flat, (0, -flat.shape[0] % ROW_MULTIPLE), value=PAD_ID)
        return F.embedding(flat, self.embedding)

    def hidden(self, ids, start=0, caches=None):
        """(N, hidden), normed: what the head and the next-token block take"""
        x, window = self.embed(ids), self.window(ids, start)
        for i, layer in enumerate(self.layers):
            x = layer(x, window, caches[i] if caches else None)
        return self.norm(x)

    def next_hidden(self, hidden, following):
        """From the hidden state of token i and token i+1, towards token i+2"""
        normed = self.next.embedding_norm(self.embed(following))
        joined = torch.cat((normed, self.next.hidden_norm(hidden)), -1)
        return self.next.norm(self.next.block(linear(joined, self.next_join), self.window(following)))

    def cross_entropy(self, hidden, targets, wanted):
        rows = wanted.reshape(-1).nonzero()[:, 0]
        n_rows = rows.shape[0]
        padded = F.pad(rows, (0, -n_rows % ROW_MULTIPLE))
        logits = linear(hidden.index_select(0, padded), self.head)[:n_rows]
        return F.cross_entropy(logits, targets.reshape(-1)[rows])

    def losses(self, ids, wanted, with_next):
        """Mean loss over the tokens where @wanted is 1, and that of the next-token block."""
        hidden = self.hidden(ids[:, :-1])
        loss = self.cross_entropy(hidden, ids[:, 1:], wanted[:, 1:])
        if not with_next:
            return loss, torch.zeros(())
        targets = F.pad(ids[:, 2:], (0, 1), value=PAD_ID)
        hidden = self.next_hidden(hidden, ids[:, 1:])
        return loss, self.cross_entropy(hidden, targets, F.pad(wanted[:, 2:], (0, 1)))

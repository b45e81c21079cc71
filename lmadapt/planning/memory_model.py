"""How much memory a training step takes, by part, from the shape of the model alone: no weights, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmadapt.core.errors import UserError

CHUNK_ELEMENTS = {
    "cpu": 2**24,
    "cuda": 2**26,
}  # of labelled_head.py, which imports torch: a test compares the two
NF4_CONSTANTS = 1 / 64 + 4 / (
    64 * 256
)  # bytes a parameter: double quantisation, Dettmers et al. 2023, section 3
FULL_LOGIT_BYTES = 14  # a logit of a head that forms all: bf16 and fp32, and the gradient of either
CUDA_BYTES = 0.9e9  # context, cuBLAS workspaces and kernels of one process
PROCESS_BYTES = 0.64e9  # Python and the libraries, on a CPU
TOKEN_BYTES = (
    1300  # of a tokenizer in memory, a token of the vocabulary: Gemma's 262,144 take 330 MB
)
FRAGMENTATION = {
    "cuda": 0.12,
    "cpu": 0.5,
}  # of what each micro-batch takes and frees, that an allocator keeps besides

PARTS = ("weights", "quantisation", "gradients", "optimizer", "activations", "logits", "workspace")
SPREAD = {
    "activations": (0.8, 1.2),
    "logits": (0.6, 1.1),
    "workspace": (0.7, 1.5),
}  # low, high; the rest is exact

Parts = dict[str, tuple[float, float, float]]
"""Bytes by part: low, expected, high."""


@dataclass(frozen=True)
class Shape:
    """A decoder as its config.json describes it: sizes in elements, `norms` a layer; all MLPs are taken as gated."""

    layers: int
    hidden: int
    intermediate: int
    queries: int  # of all heads together
    keys: int
    vocabulary: int
    tied: bool
    norms: int
    qk_norm: bool

    def linears(self, block: str) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of a decoder layer's `attention` or `mlp`."""
        if block == "mlp":
            return [*[(self.hidden, self.intermediate)] * 2, (self.intermediate, self.hidden)]
        return [
            (self.hidden, self.queries),
            *[(self.hidden, self.keys)] * 2,
            (self.queries, self.hidden),
        ]

    @property
    def linear_parameters(self) -> int:
        """Parameters of all linear layers but the head: those that NF4 quantises."""
        return self.layers * sum(
            a * b for block in ("attention", "mlp") for a, b in self.linears(block)
        )

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding and, where it is not tied to it, the head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)


def read_shape(config: Mapping[str, Any], source: str) -> Shape:
    """The shape in a parsed config.json; UserError naming `source` and what it lacks or cannot be planned."""
    config = config.get("text_config") or config
    if config.get("num_local_experts") or config.get("num_experts"):
        raise UserError(
            f"{source}: a mixture of experts, which the plan does not cover; allowed: dense decoders"
        )
    names = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
    )
    if missing := [name for name in names if not isinstance(config.get(name), int)]:
        raise UserError(
            f"{source}: lacks {', '.join(missing)}, without which memory cannot be planned; allowed: decoders"
        )
    layers, hidden, intermediate, heads, vocabulary = (int(config[name]) for name in names)
    kind, width = str(config.get("model_type", "")), config.get("head_dim") or hidden // heads
    return Shape(
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        queries=heads * width,
        keys=(config.get("num_key_value_heads") or heads) * width,
        vocabulary=vocabulary,
        tied=bool(config.get("tie_word_embeddings", kind.startswith("gemma"))),
        norms=4 if kind.startswith(("gemma2", "gemma3")) else 2,
        qk_norm=kind.startswith(("gemma3", "qwen3")),
    )


@dataclass(frozen=True)
class Setting:
    """How a step is computed: sizes of one micro-batch on one device; bytes are a parameter's."""

    row_tokens: int
    rows: int = 1
    lora_rank: int | None = None  # None: all weights are trained
    adapted: tuple[str, ...] = ("attention", "mlp")
    nf4: bool = False  # linear layers are held in 4 bits
    weight_bytes: int = 2  # of weights that are not
    gradient_bytes: int = 4
    optimizer_bytes: float = 8.0
    checkpointing: bool = False
    labelled: float = 1.0  # share of the positions that carry loss
    labelled_head: bool = True  # logits in chunks, at labelled positions only
    gpus: int = 1  # that share weights, gradients and optimiser state (FSDP)
    cuda: bool = True


def trainable_parameters(shape: Shape, setting: Setting) -> int:
    """Of the adapter, or of the whole model."""
    if setting.lora_rank is None:
        return shape.linear_parameters + shape.embedding_parameters
    return (
        shape.layers
        * setting.lora_rank
        * sum(a + b for block in setting.adapted for a, b in shape.linears(block))
    )


def layer_bytes(shape: Shape, setting: Setting) -> float:
    """What one decoder layer keeps for the backward pass, bytes a token, in bf16 with norms in fp32.

    Counted from the tensors autograd saves in transformers' Llama, Qwen and Gemma: inputs of norms in fp32, inputs of
    adapted linear layers, queries, keys and values (on a CPU repeated for all heads), the output of attention, and of
    the MLP gate, its activation, the other half and their product.
    """
    fp32 = 8 if setting.lora_rank is None else 4  # trained norms keep their output besides
    norms = (
        fp32 * (shape.norms * shape.hidden + shape.qk_norm * (shape.queries + shape.keys))
        + 4 * shape.hidden
    )
    attention = 4 * shape.queries + 4 * (shape.keys if setting.cuda else shape.queries)
    mlp = (
        2 * shape.intermediate * (4 if setting.lora_rank is None or "mlp" in setting.adapted else 3)
    )
    return (
        norms
        + attention
        + mlp
        + 2 * (setting.lora_rank or 0) * sum(len(shape.linears(b)) for b in setting.adapted)
    )


def step_memory(shape: Shape, setting: Setting) -> Parts:
    """Bytes on one device at the peak of a training step, by part."""
    trained, tokens = trainable_parameters(shape, setting), setting.rows * setting.row_tokens
    full, kept = setting.lora_rank is None, layer_bytes(shape, setting)
    linear = shape.linear_parameters * (0.5 if setting.nf4 else setting.weight_bytes)
    weights = (
        linear + shape.embedding_parameters * setting.weight_bytes + (0 if full else 4 * trained)
    )
    logits = _head_bytes(shape, setting, tokens)
    activations = tokens * kept * (shape.layers + 0.5)
    if (
        setting.checkpointing
    ):  # all logits are gone before the first layer is computed anew, a workspace is not
        anew = 1.5 * tokens * kept
        activations = 2 * tokens * shape.hidden * shape.layers
        activations += anew if setting.labelled_head else max(0, anew - logits)
    process = CUDA_BYTES if setting.cuda else PROCESS_BYTES + TOKEN_BYTES * shape.vocabulary
    process += 2 * trained if full and setting.weight_bytes == 4 else 0  # autocast's bf16 copy
    process += (
        4 * shape.linear_parameters / shape.layers if setting.gpus > 1 else 0
    )  # two layers gathered
    process += 2 * shape.hidden * shape.intermediate if setting.nf4 else 0  # one matrix unpacked
    parts = {
        "weights": weights / setting.gpus,
        "quantisation": shape.linear_parameters * NF4_CONSTANTS / setting.gpus * setting.nf4,
        "gradients": trained * setting.gradient_bytes / setting.gpus,
        "optimizer": trained * setting.optimizer_bytes / setting.gpus,
        "activations": activations,
        "logits": logits,
        "workspace": process
        + FRAGMENTATION["cuda" if setting.cuda else "cpu"]
        * (activations + (0 if full else logits)),
    }
    spread = {name: SPREAD.get(name, (1.0, 1.0)) for name in PARTS}
    return {
        name: (parts[name] * low, parts[name], parts[name] * high)
        for name, (low, high) in spread.items()
    }


def total(parts: Parts) -> tuple[float, float, float]:
    """Bytes of all parts together: low, expected, high."""
    low, expected, high = (sum(part) for part in zip(*parts.values(), strict=True))
    return low, expected, high


def _head_bytes(shape: Shape, setting: Setting, tokens: int) -> float:
    if not setting.labelled_head:
        return FULL_LOGIT_BYTES * tokens * shape.vocabulary
    labelled = max(1, round(tokens * setting.labelled))
    chunk = CHUNK_ELEMENTS["cuda" if setting.cuda else "cpu"]
    rows = min(max(1, chunk // shape.vocabulary), labelled)
    weight = shape.vocabulary * shape.hidden if setting.lora_rank is None else 0
    return 6 * rows * shape.vocabulary + 6 * labelled * shape.hidden + 12 * weight


def training_flops(shape: Shape, setting: Setting) -> float:
    """Floating-point operations a token: 2 a parameter forward, 2 for the gradient of inputs, 2 of trained weights.

    Kaplan et al. 2020 (arXiv 2001.08361), section 2.1; attention over the row besides, one more forward pass with
    activation checkpointing, the head at labelled positions only.
    """
    passes = 6 if setting.lora_rank is None else 4
    body = shape.linear_parameters + shape.layers * shape.queries * setting.row_tokens
    head = shape.vocabulary * shape.hidden * (setting.labelled if setting.labelled_head else 1.0)
    return (passes + 2 * setting.checkpointing) * body + passes * head

"""Memory of a training step by part, from the shape of the model alone: no weights, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lmadapt.core.errors import UserError

# Equal to labelled_head.CHUNK_ELEMENTS, whose module imports torch; a test compares the two.
CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**26}
# Bytes a parameter of double quantisation: Dettmers et al. 2023, section 3.
NF4_CONSTANTS = 1 / 64 + 4 / (64 * 256)
FULL_LOGIT_BYTES = 14  # of a logit where all are formed: bf16 and fp32, and their gradients
CUDA_BYTES = 0.9e9  # context, cuBLAS workspaces and kernels of one process
PROCESS_BYTES = 0.64e9  # Python and its libraries, on a CPU
# Of a tokenizer, for each token of its vocabulary: Gemma's 262,144 tokens take 330 MB (measured).
TOKEN_BYTES = 1300
# Share of a micro-batch's memory that the allocator keeps besides.
FRAGMENTATION = {"cuda": 0.12, "cpu": 0.5}

PARTS = ("weights", "quantisation", "gradients", "optimizer", "activations", "logits", "workspace")
# Low and high factors of the expected bytes; parts without an entry are exact.
SPREAD = {"activations": (0.8, 1.2), "logits": (0.6, 1.1), "workspace": (0.7, 1.5)}

Parts = dict[str, tuple[float, float, float]]
"""Bytes by part: low, expected, high."""


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder, as its config.json states it; every MLP is taken as gated."""

    layers: int
    hidden: int
    intermediate: int
    queries: int  # width of all heads together
    keys: int  # width of all key heads together
    vocabulary: int
    tied: bool  # whether the head is the embedding
    norms: int  # of a layer
    qk_norm: bool

    def linears(self, block: str) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers in a decoder layer's `attention` or `mlp`."""
        if block == "mlp":
            gate = up = (self.hidden, self.intermediate)
            return [gate, up, (self.intermediate, self.hidden)]
        key = value = (self.hidden, self.keys)
        return [(self.hidden, self.queries), key, value, (self.queries, self.hidden)]

    @property
    def linear_parameters(self) -> int:
        """Parameters of all linear layers but the head, which are those that NF4 quantises."""
        linears = [*self.linears("attention"), *self.linears("mlp")]
        return self.layers * sum(inputs * outputs for inputs, outputs in linears)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, and of the head where it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)


def read_shape(config: Mapping[str, Any], source: str) -> Shape:
    """The shape in a parsed config.json.

    Raises UserError with `source` where the model is a mixture of experts, or a size is missing.
    """
    config = config.get("text_config") or config
    if config.get("num_local_experts") or config.get("num_experts"):
        raise UserError(
            f"{source}: a mixture of experts, which the plan does not cover; "
            "allowed: dense decoders"
        )
    names = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
    )
    missing = [name for name in names if not isinstance(config.get(name), int)]
    if missing:
        raise UserError(
            f"{source}: lacks {', '.join(missing)}, without which memory cannot be planned; "
            "allowed: decoders"
        )
    layers, hidden, intermediate, heads, vocabulary = (int(config[name]) for name in names)
    model_type = str(config.get("model_type", ""))
    head_width = config.get("head_dim") or hidden // heads
    return Shape(
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        queries=heads * head_width,
        keys=(config.get("num_key_value_heads") or heads) * head_width,
        vocabulary=vocabulary,
        tied=bool(config.get("tie_word_embeddings", model_type.startswith("gemma"))),
        norms=4 if model_type.startswith(("gemma2", "gemma3")) else 2,
        qk_norm=model_type.startswith(("gemma3", "qwen3")),
    )


@dataclass(frozen=True)
class Setting:
    """How a step is computed on one device; bytes are those of one parameter."""

    row_tokens: int
    rows: int = 1  # of a micro-batch
    lora_rank: int | None = None  # None: all weights are trained
    adapted: tuple[str, ...] = ("attention", "mlp")
    nf4: bool = False  # whether linear layers are held in 4 bits
    weight_bytes: int = 2  # of weights that are not in 4 bits
    gradient_bytes: int = 4
    optimizer_bytes: float = 8.0
    checkpointing: bool = False
    labelled: float = 1.0  # share of the positions that carry loss
    labelled_head: bool = True  # whether logits are in chunks, at labelled positions only
    gpus: int = 1  # GPUs that share weights, gradients and optimiser state (FSDP)
    cuda: bool = True


def trainable_parameters(shape: Shape, setting: Setting) -> int:
    """Parameters of the adapter, or of the whole model."""
    if setting.lora_rank is None:
        return shape.linear_parameters + shape.embedding_parameters
    linears = chain.from_iterable(shape.linears(block) for block in setting.adapted)
    widths = sum(inputs + outputs for inputs, outputs in linears)
    return shape.layers * setting.lora_rank * widths


def layer_bytes(shape: Shape, setting: Setting) -> float:
    """Bytes a token that one decoder layer keeps for the backward pass, in bf16, norms in fp32.

    Counted from the tensors that autograd saves in transformers' Llama, Qwen and Gemma: inputs of
    norms in fp32; inputs of adapted linear layers; queries, keys and values (on a CPU repeated for
    all heads); the output of attention; and of the MLP its gate, the activated gate, the other half
    and their product.
    """
    full = setting.lora_rank is None
    norm_bytes = 8 if full else 4  # trained norms also keep their output
    norm_width = shape.norms * shape.hidden + shape.qk_norm * (shape.queries + shape.keys)
    norms = norm_bytes * norm_width + 4 * shape.hidden
    attention = 4 * shape.queries + 4 * (shape.keys if setting.cuda else shape.queries)
    mlp_tensors = 4 if full or "mlp" in setting.adapted else 3
    mlp = 2 * shape.intermediate * mlp_tensors
    adapted_layers = sum(len(shape.linears(block)) for block in setting.adapted)
    return norms + attention + mlp + 2 * (setting.lora_rank or 0) * adapted_layers


def step_memory(shape: Shape, setting: Setting) -> Parts:
    """Bytes on one device at the peak of a training step, by part."""
    trained = trainable_parameters(shape, setting)
    full = setting.lora_rank is None
    linear = shape.linear_parameters * (0.5 if setting.nf4 else setting.weight_bytes)
    weights = (
        linear + shape.embedding_parameters * setting.weight_bytes + (0 if full else 4 * trained)
    )
    logits = _head_bytes(shape, setting)
    activations = _activation_bytes(shape, setting, logits)
    fragmentation = FRAGMENTATION["cuda" if setting.cuda else "cpu"]
    process = _process_bytes(shape, setting, trained)
    expected = {
        "weights": weights / setting.gpus,
        "quantisation": shape.linear_parameters * NF4_CONSTANTS / setting.gpus * setting.nf4,
        "gradients": trained * setting.gradient_bytes / setting.gpus,
        "optimizer": trained * setting.optimizer_bytes / setting.gpus,
        "activations": activations,
        "logits": logits,
        "workspace": process + fragmentation * (activations + (0 if full else logits)),
    }
    parts = {}
    for name in PARTS:
        low, high = SPREAD.get(name, (1.0, 1.0))
        parts[name] = (expected[name] * low, expected[name], expected[name] * high)
    return parts


def total(parts: Parts) -> tuple[float, float, float]:
    """Bytes of all parts together: low, expected, high."""
    low, expected, high = (sum(part) for part in zip(*parts.values(), strict=True))
    return low, expected, high


def _activation_bytes(shape: Shape, setting: Setting, logits: float) -> float:
    tokens = setting.rows * setting.row_tokens
    kept = layer_bytes(shape, setting)
    if not setting.checkpointing:
        return tokens * kept * (shape.layers + 0.5)
    recomputed = 1.5 * tokens * kept
    if not setting.labelled_head:
        # The memory of all logits is free again before the first layer is computed again.
        recomputed = max(0, recomputed - logits)
    return 2 * tokens * shape.hidden * shape.layers + recomputed


def _process_bytes(shape: Shape, setting: Setting, trained: int) -> float:
    size = CUDA_BYTES if setting.cuda else PROCESS_BYTES + TOKEN_BYTES * shape.vocabulary
    if setting.lora_rank is None and setting.weight_bytes == 4:
        size += 2 * trained  # autocast's copy in bf16
    if setting.gpus > 1:
        size += 4 * shape.linear_parameters / shape.layers  # two gathered layers
    if setting.nf4:
        size += 2 * shape.hidden * shape.intermediate  # one unpacked matrix
    return size


def _head_bytes(shape: Shape, setting: Setting) -> float:
    tokens = setting.rows * setting.row_tokens
    if not setting.labelled_head:
        return FULL_LOGIT_BYTES * tokens * shape.vocabulary
    labelled = max(1, round(tokens * setting.labelled))
    chunk = CHUNK_ELEMENTS["cuda" if setting.cuda else "cpu"]
    rows = min(max(1, chunk // shape.vocabulary), labelled)
    weight = shape.vocabulary * shape.hidden if setting.lora_rank is None else 0
    return 6 * rows * shape.vocabulary + 6 * labelled * shape.hidden + 12 * weight


def training_flops(shape: Shape, setting: Setting) -> float:
    """Floating-point operations a token.

    Each parameter takes 2 forward, 2 for the gradient of the inputs, and 2 for that of trained
    weights (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention over the row comes on
    top, one more forward pass with activation checkpointing, and the head at labelled positions.
    """
    passes = 6 if setting.lora_rank is None else 4
    body = shape.linear_parameters + shape.layers * shape.queries * setting.row_tokens
    head = shape.vocabulary * shape.hidden * (setting.labelled if setting.labelled_head else 1.0)
    return (passes + 2 * setting.checkpointing) * body + passes * head

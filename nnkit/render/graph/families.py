"""Types -> color families: what a step does, as far as its name tells."""

import re

FAMILIES = (
    ("attention", r"attention|attn|sdpa"),
    ("embedding", r"embed"),
    ("conv", r"conv"),
    ("norm", r"norm\d*$|norm_|normalization|^(rms|batch|layer|group|instance)_?norm"),
    ("recurrent", r"^(q?lstm|q?gru|rnn)|(lstm|gru|rnn)(cell|base)?$"),
    ("pool", r"pool|upsample|interpolate|resize|^(mean|amax|logsumexp|adaptive)"),
    ("activation", r"relu|gelu|silu|swish|mish|^elu|selu|celu|sigmoid|tanh|softmax|softplus|softsign|glu$|^relu6"
                   r"|softmin|softshrink|threshold|^erf|hardshrink"),
    ("linear", r"linear|^(b?mm|matmul|addmm|baddbmm|einsum|gemm|dot|mv|outer|inner|dense|tensordot)$|^__r?matmul__$"),
    ("shape", r"^(view|view_as|reshape|transpose|permute|flatten|unflatten|squeeze|unsqueeze|expand|expand_as|repeat|"
              r"contiguous|chunk|split|unbind|cat|concat|concatenate|stack|hstack|vstack|getitem|__getitem__|select|"
              r"slice|index|index_select|gather|narrow|pad|roll|flip|movedim|swapaxes|swapdims|t|rearrange|unfold|"
              r"fold|pixel_(un)?shuffle|pixel(un)?shuffle|channel_?shuffle|tensor_split|clone|to|type_as|float|half|"
              r"detach|repeat_interleave|tile|meshgrid|setitem|__setitem__|copy_?|identity|dropout\d?d?|zeropad\dd|"
              r"constantpad\dd|reflectionpad\dd|replicationpad\dd|shape|constant|cast|padding)$"),
    ("math", r"^(r?add|r?sub|r?mul|r?div|truediv|floordiv|neg|r?pow|sqrt|rsqrt|exp|log|log1p|sin|cos|abs|sum|prod|square|"
             r"reciprocal|minimum|maximum|min|max|clamp|where|masked_fill|cumsum|floor|round|sign|addcmul|addcdiv|lerp|"
             r"__r?(add|sub|mul|truediv|pow)__|i(add|sub|mul|div)|tri[ul]|eq|ne|lt|gt|le|ge|scatter|scatter_add|"
             r"scatter_reduce|index_add|std|var|norm|dist|logical_\w+|bitwise_\w+|argmax|argmin|topk|sort|softcap)_?$"),
)  # fmt: skip

_PATTERNS = [(family, re.compile(pattern, re.IGNORECASE)) for family, pattern in FAMILIES]


def family_of(type: str) -> str:
    """Return the color family of a class, function or operator: `conv`, `norm`, `math` …, else `other`."""
    return next((family for family, pattern in _PATTERNS if pattern.search(type)), "other")

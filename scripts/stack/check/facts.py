"""What is known of models beyond their fragments: what `fit` has recorded of some, and the names of families."""

from __future__ import annotations

import re

from stack.fit import facts as recorded
from stack.fit.shape import LATENT
from stack.fragment import Fragment

# Multi-head latent attention: DeepSeek-V2 and later with the R1 made from V3, Kimi-K2, GLM-4.7-Flash (their config.json
# has kv_lora_rank). Distillations into other models have that other model's attention.
_LATENT = re.compile(r"(deepseek-(v[234]|r1)|kimi-k2|glm-4\.7-flash|glm47-flash|glm-5)(?!.*distill)", re.I)


def context(fragment: Fragment) -> int | None:
    """The model's own context length in tokens, if it is known."""
    known = recorded.of(_repository(fragment))
    return fragment.context or (known.context if known else 0) or None


def latent_attention(fragment: Fragment) -> bool:
    """Whether the model is known to have multi-head latent attention (MLA)."""
    repository = _repository(fragment)
    known = recorded.of(repository)
    if known:
        return any(layer.kind == LATENT for layer in known.shape.layers)
    return bool(_LATENT.search(repository.replace("_", "-")))


def _repository(fragment: Fragment) -> str:
    return fragment.argv()[2]

"""Mixture of experts: several feed-forward layers, of which a router lets one work for each token.

The parameters grow with the number of experts; what is computed for a token does not. Shazeer et al. (2017); with one
expert a token and the loss that keeps all of them busy, Fedus, Zoph & Shazeer (2022), sections 2.1 and 2.2.

What a router can find depends on what it is shown. "token" shows it each token's own hidden state, as usual. "opening" shows
it the mean of the embeddings of the first words, the same from the fourth token on: what the whole text is about.

Letters: B batch, T positions, C width of the model, E experts, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmcourse.data import IGNORED, Batch
from llmcourse.models import GPT
from llmcourse.transformer import (
    FeedForward,
    TransformerBlock,
    TransformerConfig,
    initialise,
    new_norm,
)

Evidence = Literal["opening", "token"]
OPENING = 3  # words of a text, behind its begin token, that "opening" reads
SMALL_EMBEDDING, SMALL_ROUTER = 0.2, 0.02  # how the rows of the embedding and of the router start


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """The experts in place of the last block's feed-forward layer."""

    n_experts: int = 3
    d_hidden: int = 16  # hidden width of each
    evidence: Evidence = "opening"  # what the router sees

    def __post_init__(self) -> None:
        if self.n_experts < 2 or self.d_hidden < 1:
            raise ValueError(
                f"n_experts={self.n_experts} of width {self.d_hidden}: there is a choice from 2 experts on, each at least 1 wide"
            )
        if self.evidence not in get_args(Evidence):
            raise ValueError(f"evidence={self.evidence!r}; use one of {', '.join(map(repr, get_args(Evidence)))}")


def opening_mean(embedded: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """At each position the mean of the words so far, of at most the first three, without the begin token.

    No position reads what comes after it; position 0 has only itself.
    """
    words = embedded[:, 1 : 1 + OPENING]
    means = words.cumsum(dim=1) / torch.arange(1, words.shape[1] + 1, device=words.device)[:, None]
    places = torch.arange(embedded.shape[1] - 1, device=words.device).clamp(max=OPENING - 1)
    return torch.cat([embedded[:, :1], means[:, places]], dim=1)


class Experts(nn.Module):
    """gate · expert(x), with the expert to which the router gives the highest probability, the gate.

    Choosing has no gradient. The gate has: an expert that helps is given more of its tokens.
    """

    def __init__(self, d_model: int, config: ExpertConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.router = nn.Linear(d_model, config.n_experts)
        self.experts = nn.ModuleList(FeedForward(d_model, config.d_hidden) for _ in range(config.n_experts))

    def gates(self, evidence: Float[Tensor, "B T C"]) -> Float[Tensor, "B T E"]:
        """How probable each expert is for each token."""
        return self.router(self.norm(evidence)).softmax(dim=-1)

    def forward(self, x: Float[Tensor, "B T C"], gates: Float[Tensor, "B T E"]) -> Float[Tensor, "B T C"]:
        """Only the chosen expert computes for a token."""
        gate, chosen = gates.max(dim=-1)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            result[mine] = expert(x[mine]).to(x.dtype)  # which differs in mixed precision
        return gate[..., None] * result


class ExpertGPT(GPT):
    """A GPT whose last block ends in experts. It reads whole rows and has no cache, so `generate` does not take it.

    Its embedding and its router start small. Words that are used alike then become alike before the router has chosen,
    and it sorts kinds of words. From large random rows it would sort words one by one, by chance, and stay with that.
    """

    def __init__(self, config: TransformerConfig, experts: ExpertConfig) -> None:
        super().__init__(config)
        self.evidence = experts.evidence
        self.blocks[-1] = TransformerBlock(replace(config, d_feed_forward=0))
        self.experts_norm, self.experts = new_norm(config), Experts(config.d_model, experts)
        initialise(self, config)
        nn.init.normal_(self.experts.router.weight, std=SMALL_ROUTER)
        if config.tied:
            self.head.weight = self.embedding.tokens.weight
        else:
            nn.init.normal_(self.embedding.tokens.weight, std=SMALL_EMBEDDING)

    def logits_and_gates(self, tokens: Int[Tensor, "B T"]) -> tuple[Float[Tensor, "B T V"], Float[Tensor, "B T E"]]:
        """What the model says of each next token, and how probable each expert was for each token."""
        embedded = self.embed(tokens)
        x = self.stream(embedded)
        hidden = self.experts_norm(x)
        gates = self.experts.gates(opening_mean(embedded) if self.evidence == "opening" else hidden)
        x = x + self.experts(hidden, gates)
        return self.head(self.norm(x)), gates

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits of the token that follows each position."""
        return self.logits_and_gates(tokens)[0]

    def active_parameters(self) -> int:
        """How many parameters compute for one token: all but those of the experts that are not chosen."""
        idle = sum(parameter.numel() for expert in self.experts.experts[1:] for parameter in expert.parameters())
        return sum(parameter.numel() for parameter in self.parameters()) - idle


def load_balance(gates: Float[Tensor, "*batch E"], counts: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """E Σ fᵢ Pᵢ: fᵢ the share of tokens sent to expert i, Pᵢ its mean probability. 1 when all are used alike, E at collapse.

    counts: True at the tokens that are no padding. The gradient reaches the router through Pᵢ alone.
    """
    counted = gates[counts]
    n_experts = counted.shape[-1]
    share = F.one_hot(counted.argmax(dim=-1), n_experts).float().mean(dim=0)
    return n_experts * (share * counted.mean(dim=0)).sum()


def expert_loss(model: ExpertGPT, batch: Batch, balance: float = 0.02) -> Float[Tensor, ""]:
    """The mean cross-entropy in nats per token, plus `balance` times the load-balance loss."""
    logits, gates = model.logits_and_gates(batch.tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
    return loss + balance * load_balance(gates, batch.targets != IGNORED)


def routing_table(
    chosen: Sequence[int], kinds: Sequence[int], n_experts: int, n_kinds: int
) -> Float[Tensor, "kinds experts"]:
    """Of the tokens of each kind, the share that went to each expert; rows of kinds that do not occur are 0."""
    counts = torch.zeros(n_kinds, n_experts)
    counts.index_put_((torch.tensor(kinds), torch.tensor(chosen)), torch.ones(len(chosen)), accumulate=True)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def purity(chosen: Sequence[int], kinds: Sequence[int], n_experts: int) -> float:
    """The share of tokens that went to their kind's own expert, under the best one-to-one matching of kinds to experts.

    kinds: numbers from 0, below n_experts. 1 is a router that found the kinds; guessing reaches little above 1 / n_experts.
    """
    if not chosen or len(chosen) != len(kinds):
        raise ValueError(f"{len(chosen)} choices and {len(kinds)} kinds: give as many of both, at least 1")
    pairs = list(zip(chosen, kinds, strict=True))
    matchings = permutations(range(n_experts))
    return max(sum(matching[kind] == expert for expert, kind in pairs) for matching in matchings) / len(pairs)
